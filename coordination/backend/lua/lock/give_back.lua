-- Whatever these requests hold or wait for goes to whoever is next, no matter whose they are.
-- KEYS: head    ARGV: requests
-- Returns: how many there were
local found = 0
for _, id in ipairs(ARGV) do
  if give_back(id) then found = found + 1 end
end
return found
