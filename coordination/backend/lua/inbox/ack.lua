-- The recipient is done with messages that it has in hand; nothing is left of them.
-- KEYS: head    ARGV: recipient, reader, ticket of what the reader has begun by now (or empty), then of each: ticket, delivery
-- Returns: the tickets of those that were not its own any more.
local reader, begun = ARGV[2], ARGV[3]
local box = message.box(KEYS[1], ARGV[1])
local lost = inbox.ack(box, reader, ARGV, 4, #ARGV)
if begun ~= '' then
  local d = inbox.delivery(box, begun)
  if d.reader == reader and d.begun == 0 then
    d.begun = 1
    inbox.note(box, begun, d)
  end
end
return lost
