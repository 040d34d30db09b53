-- A reader begins anew: what one of its name has in hand still, and will not finish, goes to others at once; no delivery in vain.
-- KEYS: head    ARGV: recipient, reader    Returns: how many went back.
local box = message.box(KEYS[1], ARGV[1])
local returned = 0
for _, ticket in ipairs(redis.call('ZRANGE', box.pending, 0, -1)) do
  if message.delivery(box, ticket).reader == ARGV[2] then
    returned = returned + #message.free_lane(box, message.sender_of(ticket), {}, math.huge)
  end
end
return returned
