-- The recipient cannot do a message: it is delivered again after a while, or dead after too many deliveries. What else its
-- reader has in hand of the same sender goes back, and waits behind it.
-- KEYS: head    ARGV: recipient, reader, why, wait in ms after the first time (doubled each), deliveries, ticket, delivery
-- Returns: the tickets that the reader has in hand no longer; nothing where it was not the reader's.
local box = message.box(KEYS[1], ARGV[1])
inbox.though_full(box)
local ticket = inbox.own(box, ARGV[2], ARGV, 6, #ARGV)[1]
if not ticket then return {} end
local d = inbox.delivery(box, ticket)
d.begun = 1
inbox.note(box, ticket, d)
local sender = inbox.sender_of(ticket)
local returned = inbox.free_lanes(box, { [sender] = true }, { [ticket] = ARGV[3] }, tonumber(ARGV[5]))
if call('ZREM', box.ready, ticket) == 1 then -- it is not dead
  call('ZADD', box.pending, now + ARGV[4] * 2 ^ d.failed, ticket)
  call('HSET', box.lanes, sender, '1 ' .. inbox.NOBODY)
end
return returned
