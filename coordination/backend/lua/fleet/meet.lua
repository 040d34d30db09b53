-- All workers of a namespace are of one version of coord and one ecosystem, and so are its runs. Another version or ecosystem
-- takes over when nothing is left of the one before. What is no id counts as none.
-- KEYS: version, live, workers, ecosystem
-- ARGV: our version, after how many ms a worker that was not heard of is gone, our ecosystem's id or '', the longest id
-- Returns: the version and the ecosystem that hold; ours if we are welcome.
if redis.replicate_commands then redis.replicate_commands() end
local version, gone_after_ms, ecosystem = ARGV[1], ARGV[2], ARGV[3]
local known, held = redis.call('GET', KEYS[1]), false
if ecosystem ~= '' and redis.call('STRLEN', KEYS[4]) <= tonumber(ARGV[4]) then
  held = redis.call('GET', KEYS[4])
  if held and not string.match(held, '^[a-z0-9%-]+$') then held = false end
end
if known == version and (ecosystem == '' or held == ecosystem) then return {version, ecosystem} end
local TIME = redis.call('TIME')
local heard_of_since = TIME[1] * 1000 + math.floor(TIME[2] / 1000) - gone_after_ms
if redis.call('ZCARD', KEYS[2]) > 0 or redis.call('ZCOUNT', KEYS[3], heard_of_since, '+inf') > 0 then
  if known and known ~= version then return {known, ecosystem} end
  if held and held ~= ecosystem then return {version, held} end
end
redis.call('SET', KEYS[1], version)
if ecosystem ~= '' then redis.call('SET', KEYS[4], ecosystem) end
return {version, ecosystem}
