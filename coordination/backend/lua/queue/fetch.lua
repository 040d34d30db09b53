-- The message that a worker has to take next from its queues, noted down as in its hands by the same step: none is lost between.
-- Of several runs that one is served whose turn was longest ago; of a run's messages the one with the smallest turn
-- (run/_run_dispatch.lua). What belongs to no run, or to a chord, stands under the run ''.
-- What it has done with others since it asked last is removed from its hands.
-- KEYS: served, unacked, unacked_index   ARGV: the key `posted` of a run called @, how many tags, the tags that are done, the queues
-- Returns: {queue, message, its tag if it was noted down}, or nil where none of them has a message that was put there by order.
local served, unacked, unacked_index = unpack(KEYS)
local done = tonumber(ARGV[2])
for i = 3, 2 + done do
  call('ZREM', unacked_index, ARGV[i])
  call('HDEL', unacked, ARGV[i])
end

local runs = call('ZRANGE', served, 0, -1)
if #runs == 0 then return nil end
local mine = {}
for i = 3 + done, #ARGV do mine[ARGV[i]] = true end


-- As kombu's own QoS notes it, which does so itself where there is nothing of it here. What is within a text has its quotes escaped.
local function note(queue, message)
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
  return { queue, message, note(queue, message) }
end

local AT_ONCE = 100
for _, run in ipairs(runs) do
  local posted = string.gsub(ARGV[1], '@', function() return run end)
  local from = 0
  repeat
    local queues = call('ZRANGE', posted, from, from + AT_ONCE - 1)
    for _, queue in ipairs(queues) do
      if mine[queue] then
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
