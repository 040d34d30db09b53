-- Acknowledge messages of a reader, deliver its next ones, and report messages trimmed since its last
-- position.
-- KEYS: head
-- ARGV: recipient, reader, host and pid of the reader, maximum number, idle time in ms, deliveries before a
--   message is dead, whether all count as begun (else the first), epoch, offset and trimmed of the reader's
--   position (or empty), number of acknowledged messages, ticket and delivery of each (as in ack.lua); unless
--   all count as begun: the other tickets that the reader knows to have in flight
-- Returns: {epoch, offset, trimmed, recovered 1|0, missed, ms until something is due (-1: nothing)}, {for
--   each message `<delivery> <failed deliveries> <sent at> <ticket> <head>`, body}, {acknowledged tickets
--   that the reader no longer had}.
local to, reader, host_and_pid, limit, idle_ms, deliveries = unpack(ARGV, 1, 6)
local all_begun, epoch_seen, offset_seen, trimmed_seen, done = unpack(ARGV, 7, 11)
local SCAN_LIMIT = 1000 -- tickets searched for one that this reader may take; later calls search further
local SLICE, MOST_BYTES = 16, 4 * 1024 * 1024 -- messages after so many bytes wait for the next call
limit = tonumber(limit)
local call = redis.call
local box = message.box(KEYS[1], to)
inbox.allow_when_full(box)
inbox.record_reader(box, reader, host_and_pid)
local behind = 11 + 2 * done
local lost = inbox.ack(box, reader, ARGV, 12, behind)
inbox.take_over(box, tonumber(deliveries))
if all_begun == '0' then
  local known = {}
  for i = behind + 1, #ARGV do known[ARGV[i]] = true end
  inbox.return_unknown(box, reader, known)
end

local lanes = {} -- sender → {number of its messages in flight, their reader}
local function lane_of(sender)
  if not lanes[sender] then
    local n, holder = inbox.lane(box, sender)
    lanes[sender] = { n = n, reader = holder }
  end
  return lanes[sender]
end

-- Return what this reader may take, in order: tickets, and the offset and the sender of each.
local function pick()
  local picked, offsets, senders, from, step = {}, {}, {}, 0, limit
  while #picked < limit and from < SCAN_LIMIT do
    local some = call('ZRANGE', box.ready, from, from + step - 1)
    for _, ticket in ipairs(some) do
      local offset, last_ms, sender = string.match(ticket, '^(%d+) %S+ %a(%d+) (.*)$')
      if tonumber(last_ms) <= now then
        message.delete_if_over(box, ticket)
        from = from - 1
      else
        local holder = lane_of(sender).reader
        if (not holder or holder == reader) and #picked < limit then
          picked[#picked + 1], offsets[#offsets + 1], senders[#senders + 1] = ticket, tonumber(offset), sender
        end
      end
    end
    if #some < step then break end
    from, step = from + step, math.max(step, 16)
  end
  return picked, offsets, senders
end

-- Read the entries `from` to `to` of the stream: consecutive ones with one command.
local function entries(offsets, from, to)
  local in_a_row = true
  for i = from + 1, to do in_a_row = in_a_row and offsets[i] == offsets[i - 1] + 1 end
  if in_a_row then
    local found = call('XRANGE', box.stream, offsets[from] .. '-0', offsets[to] .. '-0')
    if #found == to - from + 1 then return found end
  end
  local found = {}
  for i = from, to do
    local id = offsets[i] .. '-0'
    found[#found + 1] = call('XRANGE', box.stream, id, id)[1]
  end
  return found
end

-- Return the content of the picked messages, up to MOST_BYTES.
local function loaded_of(picked, offsets)
  local loaded, bytes = {}, 0
  while #loaded < #picked and bytes < MOST_BYTES do
    for _, entry in ipairs(entries(offsets, #loaded + 1, math.min(#loaded + SLICE, #picked))) do
      loaded[#loaded + 1], bytes = entry[2], bytes + #entry[2][6]
    end
  end
  return loaded
end

local function hand_out(picked, offsets, senders)
  local rows, written, due, taken = {}, {}, {}, {}
  local values = call('HMGET', box.deliveries, unpack(picked))
  for i, fields in ipairs(loaded_of(picked, offsets)) do
    local ticket, d = picked[i], inbox.read_delivery(values[i])
    taken[i] = ticket
    d.n, d.reader, d.begun = d.n + 1, reader, (all_begun == '1' or i == 1) and 1 or 0
    if fields[7] == 'forget' then
      message.erase(box, ticket)
    else
      written[#written + 1], written[#written + 2] = ticket, inbox.format_delivery(d)
      due[#due + 1], due[#due + 2] = now + idle_ms, ticket
      local lane = lane_of(senders[i])
      lane.n, lane.reader, lane.changed = lane.n + 1, reader, true
    end
    rows[2 * i - 1] = d.n .. ' ' .. d.failed .. ' ' .. fields[2] .. ' ' .. ticket .. ' ' .. fields[4]
    rows[2 * i] = fields[6]
  end
  call('ZREM', box.ready, unpack(taken))
  if #written > 0 then
    call('HSET', box.deliveries, unpack(written))
    call('ZADD', box.pending, unpack(due))
  end
  for sender, lane in pairs(lanes) do
    if lane.changed then call('HSET', box.lanes, sender, lane.n .. ' ' .. lane.reader) end
  end
  return rows
end

local picked, offsets, senders = {}, nil, nil
if limit > 0 then picked, offsets, senders = pick() end
local rows = #picked > 0 and hand_out(picked, offsets, senders) or {}

local epoch, seq, trimmed, reported = unpack(call('HMGET', box.facts, 'epoch', 'seq', 'trimmed', 'told'))
seq, trimmed, reported = tonumber(seq or 0), tonumber(trimmed or 0), tonumber(reported or 0)
local recovered, missed = 1, 0
local elsewhere = epoch_seen ~= ''
  and (epoch_seen ~= epoch or tonumber(offset_seen) > seq or tonumber(trimmed_seen) > trimmed)
if elsewhere then
  recovered = 0 -- another data set, or an older state of it: the missing messages are unknown
else
  local known = epoch_seen == '' and reported or tonumber(trimmed_seen)
  if known > reported then call('HSET', box.facts, 'told', known) end
  missed = trimmed - known
  if missed > 0 then recovered = 0 end
end

local due = -1
if #picked == 0 then
  call('HSETNX', box.facts, 'waits', 1)
  local first = call('ZRANGE', box.pending, 0, 0, 'WITHSCORES')
  if first[2] then due = math.max(0, tonumber(first[2]) - now) end
end
return { { epoch, seq, trimmed, recovered, missed, due }, rows, lost }
