-- Gives back one exclusive lock for which nobody waits: what lock/release would do, in half of its calls.
-- KEYS: lock, its shares, its queue, the request's record, its party, parties, names, the party's last
--   release
-- ARGV: request, the lock's typed name, party, how long the release is remembered in ms
-- Returns: 1, or nil, and nothing is done: ask lock/release
local call = redis.call
if call('GET', KEYS[1]) ~= ARGV[1] or call('EXISTS', KEYS[2], KEYS[3]) > 0 then return nil end
call('DEL', KEYS[1], KEYS[4])
call('SREM', KEYS[5], ARGV[1])
if call('EXISTS', KEYS[5]) == 0 then call('SREM', KEYS[6], ARGV[3]) end
call('SREM', KEYS[7], ARGV[2])
call('SET', KEYS[8], ARGV[1], 'PX', ARGV[4])
return 1
