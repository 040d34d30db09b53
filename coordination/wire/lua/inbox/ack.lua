-- The recipient is done with messages that it has in hand; nothing is left of them.
-- KEYS: head    ARGV: recipient, reader, ticket of what the reader has begun by now (or empty), then of each: ticket, delivery
-- Returns: the tickets of those that were not its own any more.
local reader, begun = ARGV[2], ARGV[3]
local box = message.box(KEYS[1], ARGV[1])
local own, lost = inbox.own(box, reader, 4)
if #own > 0 then
  local ids, of = {}, {}
  for i, ticket in ipairs(own) do
    local sender = inbox.sender_of(ticket)
    ids[i], of[sender] = message.id_of(ticket), (of[sender] or 0) + 1
  end
  redis.call('XDEL', box.stream, unpack(ids))
  redis.call('HDEL', box.deliveries, unpack(own))
  redis.call('ZREM', box.pending, unpack(own))
  for sender, n in pairs(of) do inbox.narrow(box, sender, n) end
end
if begun ~= '' then
  local d = inbox.delivery(box, begun)
  if d.reader == reader and d.begun == 0 then
    d.begun = 1
    inbox.note(box, begun, d)
  end
end
return lost
