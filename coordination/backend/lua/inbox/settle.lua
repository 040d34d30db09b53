-- Delete waiting messages by their tickets. Messages in flight stay.
-- KEYS: head    ARGV: recipient, tickets
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
