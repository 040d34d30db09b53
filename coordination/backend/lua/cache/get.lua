-- Read a key: the value of the innermost context that has it. Counts as a use, and as hit or miss.
-- KEYS: head
-- ARGV: key, eviction policy, hits since the last call that were answered in process; then the contexts,
--   innermost first
-- Returns: `hit`, `hidden` or `miss`; the number of the context that has it (from 1; the last on a miss); the
--   value; its remaining ms; then the generation of each context
local name, policy, local_hits = unpack(ARGV)
local contexts = {}
for i = 4, #ARGV do contexts[#contexts + 1] = ARGV[i] end
if local_hits ~= '0' then count('local_hits', local_hits) end

local function found()
  for i, context in ipairs(contexts) do
    local digest, _, expires = entry(context, name)
    if digest == HIDES then return 'hidden', i, '', expires - now end
    local value = digest and call('HGET', head .. KEY.cache_values, digest)
    if value then
      used(context, name, policy, expires)
      return 'hit', i, value, expires - now
    end
  end
  return 'miss', #contexts, '', 0
end

local word, which, value, left_ms = found()
count(word == 'hit' and 'hits' or 'misses', 1)
announce_if_asked(word == 'hit' and 'cache.hit' or 'cache.miss', first_line(name), 'context', contexts[which])
return { word, which, value, left_ms, unpack(generations(contexts)) }
