-- Delete keys of a context. If an outer context has a value, the key is hidden for the ttl; the outer value
-- stays.
-- KEYS: head
-- ARGV: ttl in ms, eviction policy, maximum bytes, number of contexts; the contexts, that of the keys first,
--   then its outer ones; then the keys (at most 1,000)
-- Returns: how many of the handled keys had a value before, the generation, the number of handled keys: call
--   again with the others, because a step evicts a limited number; or `none`, generation, 0: no room to
--   record that a key is hidden
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

local gone, handled, verdict = 0, 0, 'room'
for i = 5 + depth, #ARGV do
  local name = ARGV[i]
  local had_value = visible(name, 1)
  unset(context, name)
  if visible(name, 2) then
    local function needs() return #member_of(context, name) + OVERHEAD end
    verdict = make_room(needs, tonumber(max_bytes), policy)
    if verdict ~= 'room' then break end
    set(context, name, HIDES, '', now + tonumber(ttl_ms), policy)
  end
  gone, handled = gone + (had_value and 1 or 0), handled + 1
end
changed(context)
if call('EXISTS', entries_of(context)) == 0 then call('HDEL', head .. KEY.cache_generations, context) end
local generation = generations({ context })[1]
if verdict == 'none' then return { 'none', generation, 0 } end
return { gone, generation, handled }
