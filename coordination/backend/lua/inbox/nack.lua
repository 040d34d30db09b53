-- Refuse a message: it is delivered again after a delay, or becomes a dead letter after too many deliveries.
-- The reader's other messages of the same sender return with it and wait behind it.
-- KEYS: head    ARGV: recipient, reader, reason, first delay in ms (doubled each time), deliveries, ticket,
--   delivery
-- Returns: the tickets that the reader no longer has in flight; none if the message was not the reader's.
local box = message.box(KEYS[1], ARGV[1])
inbox.allow_when_full(box)
local ticket = inbox.own(box, ARGV[2], ARGV, 6, #ARGV)[1]
if not ticket then return {} end
local d = inbox.delivery(box, ticket)
d.begun = 1
inbox.write_delivery(box, ticket, d)
local sender = inbox.sender_of(ticket)
local returned = inbox.return_lanes(box, { [sender] = true }, { [ticket] = ARGV[3] }, tonumber(ARGV[5]))
if call('ZREM', box.ready, ticket) == 1 then -- it is no dead letter
  call('ZADD', box.pending, now + ARGV[4] * 2 ^ d.failed, ticket)
  call('HSET', box.lanes, sender, '1 ' .. inbox.NOBODY)
end
return returned
