-- Prolongs the lock, if the token still holds it.
-- KEYS: lock    ARGV: token, ttl in ms
-- Returns: 1, or 0 where it is lost.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
