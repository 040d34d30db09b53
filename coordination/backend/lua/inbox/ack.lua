-- Acknowledge messages: delete what the reader has in flight.
-- KEYS: head    ARGV: recipient, reader, ticket that the reader has begun by now (or empty), then for each
--   message: ticket, delivery
-- Returns: the tickets that the reader no longer had.
local reader, begun = ARGV[2], ARGV[3]
local box = message.box(KEYS[1], ARGV[1])
local lost = inbox.ack(box, reader, ARGV, 4, #ARGV)
if begun ~= '' then
  local d = inbox.delivery(box, begun)
  if d.reader == reader and d.begun == 0 then
    d.begun = 1
    inbox.write_delivery(box, begun, d)
  end
end
return lost
