-- The server's clock was set. Once for a step, whoever saw it: it is counted, and after a step backwards no lease lasts longer than
-- one can, and timers are moved that were set before it.
-- KEYS: leases, timers, epoch, counters
-- ARGV: by how many ms, between which two moments of its time now, the longest lease in ms, then of each timer to be moved: member,
--   due, due from now on
-- Returns: 1, or 0 where somebody else has seen to it.
local leases, timers, epoch, counters = unpack(KEYS)
local by, earliest, latest, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local SAME_BY_MS = 2000 -- each keeper measures for itself
local known_by, known_earliest, known_latest = unpack(call('HMGET', epoch, 'set_by', 'set_after', 'set_before'))
local same = known_by and math.abs(known_by - by) < SAME_BY_MS
if same and earliest <= tonumber(known_latest) and latest >= tonumber(known_earliest) then return 0 end
call('HSET', epoch, 'set_by', ARGV[1], 'set_after', ARGV[2], 'set_before', ARGV[3])
call('HINCRBY', counters, 'clock_steps', 1)
if by > 0 then return 1 end
local longest = string.format('%.0f', now + lease)
for _, member in ipairs(call('ZRANGEBYSCORE', leases, '(' .. longest, '+inf')) do
  call('ZADD', leases, longest, member)
end
for i = 5, #ARGV, 3 do
  local member, due, moved = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  if tonumber(call('ZSCORE', timers, member) or 0) == due then call('ZADD', timers, moved, member) end
end
return 1
