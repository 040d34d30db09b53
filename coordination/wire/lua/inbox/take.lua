-- Hands a reader what is next in an inbox, and says whether anything was trimmed that nobody has been told of.
-- KEYS: head
-- ARGV: recipient, reader, host and pid of the reader, how many at most, idle time in ms, deliveries until it is dead,
--       whether all count as begun (else the first), epoch, offset and trimmed of the reader's position (or empty)
-- Returns: {epoch, offset, trimmed, recovered 1|0, missed, ms until something is due (-1: nothing)}, {of each message
--   `<delivery> <in vain> <sent at> <ticket>`, head, body}.
local to, reader, place, limit, idle_ms, deliveries, all_begun, epoch_seen, offset_seen, trimmed_seen = unpack(ARGV)
local LOOKED_AT = 1000 -- behind so many that only others may have, the next are looked at when those are done
limit = tonumber(limit)
local call = redis.call
local box = message.box(KEYS[1], to)
inbox.see(box, reader, place)
inbox.take_over(box, tonumber(deliveries))

local lanes = {} -- sender → {how many of its are in hand, whose}
local function lane_of(sender)
  if not lanes[sender] then
    local n, holder = inbox.lane(box, sender)
    lanes[sender] = { n = n, reader = holder }
  end
  return lanes[sender]
end

local function pick()
  local picked, from, step = {}, 0, math.max(limit, 16)
  while #picked < limit and from < LOOKED_AT do
    local some = call('ZRANGE', box.ready, from, from + step - 1)
    for _, ticket in ipairs(some) do
      local holder = lane_of(inbox.sender_of(ticket)).reader
      if message.drop_if_over(box, ticket) then
        from = from - 1
      elseif (not holder or holder == reader) and #picked < limit then
        picked[#picked + 1] = ticket
      end
    end
    if #some < step then break end
    from = from + step
  end
  return picked
end

local function hand_out(picked)
  local rows, noted, due = {}, {}, {}
  local values = call('HMGET', box.deliveries, unpack(picked))
  for i, ticket in ipairs(picked) do
    local id = message.id_of(ticket)
    local fields = call('XRANGE', box.stream, id, id)[1][2]
    local d = inbox.read_delivery(values[i])
    d.n, d.reader, d.begun = d.n + 1, reader, (all_begun == '1' or i == 1) and 1 or 0
    if fields[7] == 'forget' then
      message.erase(box, ticket)
    else
      noted[#noted + 1], noted[#noted + 2] = ticket, inbox.written(d)
      due[#due + 1], due[#due + 2] = message.now + idle_ms, ticket
      local lane = lane_of(inbox.sender_of(ticket))
      lane.n, lane.reader, lane.changed = lane.n + 1, reader, true
    end
    rows[3 * i - 2] = d.n .. ' ' .. d.failed .. ' ' .. fields[2] .. ' ' .. ticket
    rows[3 * i - 1], rows[3 * i] = fields[4], fields[6]
  end
  call('ZREM', box.ready, unpack(picked))
  if #noted > 0 then
    call('HSET', box.deliveries, unpack(noted))
    call('ZADD', box.pending, unpack(due))
  end
  for sender, lane in pairs(lanes) do
    if lane.changed then call('HSET', box.lanes, sender, lane.n .. ' ' .. lane.reader) end
  end
  return rows
end

local picked = limit > 0 and pick() or {}
local rows = #picked > 0 and hand_out(picked) or {}

local epoch, seq, trimmed, told = unpack(call('HMGET', box.facts, 'epoch', 'seq', 'trimmed', 'told'))
seq, trimmed, told = tonumber(seq or 0), tonumber(trimmed or 0), tonumber(told or 0)
local recovered, missed = 1, 0
if epoch_seen ~= '' and (epoch_seen ~= epoch or tonumber(offset_seen) > seq) then
  recovered = 0 -- another data set, or an older state of it: nobody knows what is missing
else
  local known = epoch_seen == '' and told or tonumber(trimmed_seen)
  if known > told then call('HSET', box.facts, 'told', known) end
  missed = trimmed - known
  if missed > 0 then recovered = 0 end
end

local due = -1
if #picked == 0 then
  call('HSETNX', box.facts, 'waits', 1)
  local first = call('ZRANGE', box.pending, 0, 0, 'WITHSCORES')
  if first[2] then due = math.max(0, tonumber(first[2]) - message.now) end
end
return { { epoch, seq, trimmed, recovered, missed, due }, rows }
