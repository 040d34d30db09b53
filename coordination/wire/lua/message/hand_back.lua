-- A reader leaves: what it has in hand goes to others at once, and counts as no delivery in vain.
-- KEYS: head    ARGV: recipient, reader, then of each: ticket, delivery
-- Returns: how many went back.
local box = message.box(KEYS[1], ARGV[1])
local returned = 0
for i = 3, #ARGV, 2 do
  local d = message.delivery(box, ARGV[i])
  if d.reader == ARGV[2] and d.n == tonumber(ARGV[i + 1]) then
    returned = returned + #message.free_lane(box, message.sender_of(ARGV[i]), {}, math.huge)
  end
end
return returned
