-- Release or withdraw requests, of any owner.
-- KEYS: head    ARGV: requests
-- Returns: the number of requests found
local found = 0
for _, id in ipairs(ARGV) do
  if give_back(id) then found = found + 1 end
end
return found
