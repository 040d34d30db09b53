-- Gives back one exclusive lock for which nobody waits: what lock/release would do, in half of its calls.
-- An owner without locks is left to the sweeper: it comes again soon.
-- KEYS: head
-- ARGV: request, the lock's typed name, party, how long the release is remembered in ms
-- Returns: 1, or nil, and nothing is done: ask lock/release
local call, head = redis.call, KEYS[1]
local id, name, party, done_ms = unpack(ARGV)
local lock = head .. name
if call('GET', lock) ~= id or call('EXISTS', head .. KEY.shares .. name, head .. KEY.queue .. name) > 0 then return nil end

call('DEL', lock, head .. KEY.request .. id)
call('SREM', head .. KEY.party .. party, id)
call('SREM', head .. KEY.names, name)
call('SET', head .. KEY.done .. party, id, 'PX', done_ms)
return 1
