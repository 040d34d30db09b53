-- What is to be seen from a context, as far as it fits. It counts as no use.
-- KEYS: head    ARGV: at most so many bytes of keys and values; then contexts, the inner one first
-- Returns: how many values there are beside, then key and value in turn. Of a context with more than 1,000 entries only so many are
--   looked at; the others are counted among those beside, be they hidden or not.
if call('EXISTS', head .. KEY.cache_contexts) == 0 then return { 0 } end
local MOST = 1000
local room, seen, beside, found = tonumber(ARGV[1]), {}, 0, { 0 }

local function take(context, name)
  if seen[name] then return end
  local digest, size = entry(context, name)
  if not digest then return end
  seen[name] = true
  if digest == HIDES then return end
  local value = #name + size <= room and call('HGET', head .. KEY.cache_values, digest)
  if not value then
    beside = beside + 1
    return
  end
  room = room - #name - size
  found[#found + 1], found[#found + 2] = name, value
end

for i = 2, #ARGV do
  local entries = entries_of(ARGV[i])
  local names = call('HRANDFIELD', entries, MOST)
  table.sort(names)
  for _, name in ipairs(names) do take(ARGV[i], name) end
  beside = beside + math.max(0, call('HLEN', entries) - MOST)
end
found[1] = beside
return found
