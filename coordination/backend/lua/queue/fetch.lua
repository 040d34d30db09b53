-- Take a worker's next message from its queues and record it as unacknowledged, in one step, so that no crash
-- loses it. First delete the messages that the worker has finished.
-- The run that was served longest ago comes first, and of its messages the one with the smallest turn
-- (run/_run_dispatch.lua). Messages without a run, or of a chord, belong to the run ''.
-- KEYS: served, unacked, unacked_index   ARGV: the key `posted` with @ for the run, number of tags, the
--   finished tags, the queues
-- Returns: {queue, message, its tag if it was recorded as unacknowledged}, or nil if no queue has a message
--   with a turn
local served, unacked, unacked_index = unpack(KEYS)
local finished = tonumber(ARGV[2])
for i = 3, 2 + finished do
  call('ZREM', unacked_index, ARGV[i])
  call('HDEL', unacked, ARGV[i])
end

local runs = call('ZRANGE', served, 0, -1)
if #runs == 0 then return nil end
local own_queues = {}
for i = 3 + finished, #ARGV do own_queues[ARGV[i]] = true end

-- Record the message as kombu's QoS does, which does it itself if nothing is recorded here. Quotes within a
-- text are escaped, so the patterns match only the message's own fields.
local function record_unacked(queue, message)
  local tag = string.match(message, '"delivery_tag": "([^"\\]+)"')
  if not tag or not string.find(message, '"routing_key": "' .. queue .. '"', 1, true) then return '' end
  call('HSET', unacked, tag, '[' .. message .. ', "", "' .. queue .. '"]')
  call('ZADD', unacked_index, now_us / 1000000, tag)
  return tag
end

local function take(run, posted, queue)
  local message = call('RPOP', queue)
  if not message then
    call('ZREM', posted, queue)
    return nil
  end
  if run == '' and call('EXISTS', queue) == 1 then
    call('ZADD', posted, now, queue)
  else
    call('ZREM', posted, queue)
  end
  call('ZADD', served, now, run)
  return { queue, message, record_unacked(queue, message) }
end

local AT_ONCE = 100
for _, run in ipairs(runs) do
  local posted = string.gsub(ARGV[1], '@', function() return run end)
  local from = 0
  repeat
    local queues = call('ZRANGE', posted, from, from + AT_ONCE - 1)
    for _, queue in ipairs(queues) do
      if own_queues[queue] then
        local taken = take(run, posted, queue)
        if taken then return taken end
      else
        from = from + 1
      end
    end
  until #queues < AT_ONCE
  if call('EXISTS', posted) == 0 then call('ZREM', served, run) end
end
return nil
