-- Delete a part of the entries of contexts; keys that they hide are visible again.
-- KEYS: head    ARGV: contexts
-- Returns: the contexts that still have entries: call again for these
local left, budget = {}, 5 * AT_ONCE
for _, context in ipairs(ARGV) do
  repeat
    local names = budget > 0 and call('HRANDFIELD', entries_of(context), AT_ONCE) or {}
    for _, name in ipairs(names) do unset(context, name) end
    budget = budget - #names
  until #names == 0
  if call('EXISTS', entries_of(context)) == 1 then left[#left + 1] = context end
end
return left
