-- Check that a worker belongs to the version of coord and the ecosystem of its namespace. Another version or
-- ecosystem takes over when no run and no worker of the former one is left. A stored value that is no id
-- counts as none.
-- KEYS: version, live, workers, ecosystem
-- ARGV: our version, ms after which a silent worker counts as gone, our ecosystem's id or '', maximum length
--   of an id
-- Returns: the version and the ecosystem of the namespace; ours if we are accepted.
local version, gone_after_ms, ecosystem = ARGV[1], ARGV[2], ARGV[3]
local known, bound = call('GET', KEYS[1]), false
if ecosystem ~= '' and call('STRLEN', KEYS[4]) <= tonumber(ARGV[4]) then
  bound = call('GET', KEYS[4])
  if bound and not string.match(bound, '^[a-z0-9%-]+$') then bound = false end
end
if known == version and (ecosystem == '' or bound == ecosystem) then return {version, ecosystem} end
local seen_since = now - gone_after_ms
if call('ZCARD', KEYS[2]) > 0 or call('ZCOUNT', KEYS[3], seen_since, '+inf') > 0 then
  if known and known ~= version then return {known, ecosystem} end
  if bound and bound ~= ecosystem then return {version, bound} end
end
call('SET', KEYS[1], version)
if ecosystem ~= '' then call('SET', KEYS[4], ecosystem) end
return {version, ecosystem}
