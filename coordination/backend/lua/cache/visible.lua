-- List the values visible from a context, up to a size. Does not count as a use.
-- KEYS: head    ARGV: maximum bytes of keys and values; then contexts, innermost first
-- Returns: the number of omitted values, then key and value in turn. Of a context with more than 1,000
--   entries only that many are read; the others count as omitted, hidden or not.
if call('EXISTS', head .. KEY.cache_contexts) == 0 then return { 0 } end
local READ_LIMIT = 1000
local room, seen, omitted, found = tonumber(ARGV[1]), {}, 0, { 0 }

local function take(context, name)
  if seen[name] then return end
  local digest, size = entry(context, name)
  if not digest then return end
  seen[name] = true
  if digest == HIDES then return end
  local value = #name + size <= room and call('HGET', head .. KEY.cache_values, digest)
  if not value then
    omitted = omitted + 1
    return
  end
  room = room - #name - size
  found[#found + 1], found[#found + 2] = name, value
end

for i = 2, #ARGV do
  local entries = entries_of(ARGV[i])
  local names = call('HRANDFIELD', entries, READ_LIMIT)
  table.sort(names)
  for _, name in ipairs(names) do take(ARGV[i], name) end
  omitted = omitted + math.max(0, call('HLEN', entries) - READ_LIMIT)
end
found[1] = omitted
return found
