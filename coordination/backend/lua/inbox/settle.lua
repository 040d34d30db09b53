-- Whoever only looked at messages is done with them: nothing is left of those that wait. What a reader has in hand stays with it.
-- KEYS: head    ARGV: recipient, then their tickets
-- Returns: the tickets of those that did not wait.
local box = message.box(KEYS[1], ARGV[1])
local rest = {}
for i = 2, #ARGV do
  if call('ZREM', box.ready, ARGV[i]) == 1 then
    message.erase(box, ARGV[i])
  else
    rest[#rest + 1] = ARGV[i]
  end
end
return rest
