-- What a key means in a context: the value of the innermost context that has the key. It counts as used, and as hit or miss.
-- KEYS: head
-- ARGV: key, eviction policy, hits since the last call that were answered in process; then the contexts, the inner one first
-- Returns: `hit` or `hidden`, or `miss`; which of the contexts has it (from 1; as many as there are on a miss); the value; how long
--   it has left in ms; then the generation of each context
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
return { word, which, value, left_ms, unpack(generations(contexts)) }
