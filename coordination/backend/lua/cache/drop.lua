-- Takes away a piece of all that contexts hold; what they hide is hidden no more.
-- KEYS: head    ARGV: contexts
-- Returns: those that have something left: call again for these
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
