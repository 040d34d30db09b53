-- Delete keys of a context. If an outer context has a value, the key is hidden for the ttl; the outer value
-- stays.
-- KEYS: head
-- ARGV: ttl in ms, eviction policy, maximum bytes, number of contexts; the contexts, that of the keys first,
--   then its outer ones; then the keys (at most 1,000)
-- Returns: how many of the handled keys had a value before, the generation, the number of handled keys: call
--   again with the others, because a step evicts a limited number
local ttl_ms, policy, max_bytes, depth = unpack(ARGV)
depth, max_bytes = tonumber(depth), tonumber(max_bytes)
local context = ARGV[5]

local function visible(name, from)
  for i = from, depth do
    local digest = entry(ARGV[4 + i], name)
    if digest then return digest ~= HIDES end
  end
  return false
end

local gone, handled = 0, 0
for i = 5 + depth, #ARGV do
  local name = ARGV[i]
  local had_value = visible(name, 1)
  local more = visible(name, 2) and make_room(context, name, HIDES, 0, max_bytes, policy) == 'more'
  if visible(name, 2) then -- else the outer value was evicted
    if more then break end
    set(context, name, HIDES, '', now + tonumber(ttl_ms), policy)
  else
    unset(context, name)
  end
  gone, handled = gone + (had_value and 1 or 0), handled + 1
end
changed(context)
if call('EXISTS', entries_of(context)) == 0 then call('HDEL', head .. KEY.cache_generations, context) end
return { gone, generations({ context })[1], handled }
