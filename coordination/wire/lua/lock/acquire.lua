-- Grants the lock if it is free. A repeated request of the same holder is answered as the first was.
-- KEYS: lock, info, names
-- ARGV: token, ttl in ms, name, then field and value of the owner's description
-- Returns: the fence, or nil while somebody else holds it.
if redis.replicate_commands then redis.replicate_commands() end
local lock, info, names = unpack(KEYS)
if redis.call('GET', lock) == ARGV[1] then return redis.call('HGET', info, 'fence') end
if not redis.call('SET', lock, ARGV[1], 'NX', 'PX', ARGV[2]) then return nil end
-- Never below the clock in microseconds: a server that lost data does not give out an old fence again.
local time = redis.call('TIME')
local fence = math.max(tonumber(redis.call('HGET', info, 'fence') or '0') + 1, time[1] * 1000000 + time[2])
fence = string.format('%.0f', fence)
redis.call('HSET', info, 'fence', fence, unpack(ARGV, 4))
redis.call('SADD', names, ARGV[3])
return fence
