-- Delete keys of a context. If an outer context has a value, the key is hidden for the ttl; the outer value
-- stays.
-- KEYS: head
-- ARGV: ttl in ms, eviction policy, maximum bytes, number of contexts; the contexts, that of the keys first,
--   then its outer ones; then the keys (at most 1,000)
-- Returns: how many of the keys had a value before, the generation; or `none`: no room to record that they
--   are hidden
local ttl_ms, policy, max_bytes, depth = unpack(ARGV)
depth = tonumber(depth)
local context = ARGV[5]

local function visible(name, from)
  for i = from, depth do
    local digest = entry(ARGV[4 + i], name)
    if digest then return digest ~= HIDES end
  end
  return false
end

local gone = 0
for i = 5 + depth, #ARGV do
  local name = ARGV[i]
  if visible(name, 1) then gone = gone + 1 end
  unset(context, name)
  if visible(name, 2) then
    local function needs() return #member_of(context, name) + OVERHEAD end
    local verdict = make_room(needs, tonumber(max_bytes), policy)
    if verdict ~= 'room' then return { 'none', '0' } end
    set(context, name, HIDES, '', now + tonumber(ttl_ms), policy)
  end
end
changed(context)
if call('EXISTS', entries_of(context)) == 0 then call('HDEL', head .. KEY.cache_generations, context) end
return { gone, generations({ context })[1] }
