-- Renew all leases of one worker.
-- KEYS: leases, holders, stops
-- ARGV: lease in ms, then member and fence of each
-- Returns: {members whose lease is lost, members whose executor is asked to stop}
local leases, holders, stops = unpack(KEYS)
local expiry = now + ARGV[1]
local lost, stopped = {}, {}
for i = 2, #ARGV, 2 do
  local member, fence = ARGV[i], ARGV[i + 1]
  if call('HGET', holders, member) ~= fence then
    lost[#lost + 1] = member
  else
    call('ZADD', leases, 'XX', expiry, member)
    if call('SISMEMBER', stops, member) == 1 then stopped[#stopped + 1] = member end
  end
end
return { lost, stopped }
