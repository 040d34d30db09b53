-- All workers of a Redis are of one version of coord, and so are its runs. Another version takes over when nothing is left of it.
-- KEYS: version, live, workers   ARGV: our version, after how many ms a worker that was not heard of is gone
-- Returns: the version that holds; ours if we are welcome.
if redis.replicate_commands then redis.replicate_commands() end
local ours, gone_after_ms = ARGV[1], ARGV[2]
local known = redis.call('GET', KEYS[1])
if known == ours then return ours end
local TIME = redis.call('TIME')
local heard_of_since = TIME[1] * 1000 + math.floor(TIME[2] / 1000) - gone_after_ms
local in_use = redis.call('ZCARD', KEYS[2]) > 0 or redis.call('ZCOUNT', KEYS[3], heard_of_since, '+inf') > 0
if known and in_use then return known end
redis.call('SET', KEYS[1], ours)
return ours
