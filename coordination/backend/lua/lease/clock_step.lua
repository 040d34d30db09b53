-- Handle a step of the server's clock; it is counted once, whichever process measured it. After a step
-- backwards, limit each lease to its longest duration and move the timers that were set before the step.
-- KEYS: leases, timers, epoch, counters
-- ARGV: size of the step in ms, the two moments (in the new time) between which it happened, the longest
--   lease in ms, then for each timer to be moved: member, due, new due
-- Returns: 1, or 0 if another process has handled it.
local leases, timers, epoch, counters = unpack(KEYS)
local by, earliest, latest, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local SAME_BY_MS = 2000 -- each maintenance leader measures for itself
local known = call('HMGET', epoch, 'set_by', 'set_after', 'set_before')
local known_by, known_earliest, known_latest = unpack(known)
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
