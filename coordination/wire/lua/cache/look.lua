-- Whether contexts have changed, and what was answered in process meanwhile.
-- KEYS: head    ARGV: hits since the last call that were answered in process; then contexts
-- Returns: the generation of each
head = KEYS[1]
local contexts = {}
for i = 2, #ARGV do contexts[i - 1] = ARGV[i] end
if ARGV[1] ~= '0' then count('local_hits', ARGV[1]) end
return generations(contexts)
