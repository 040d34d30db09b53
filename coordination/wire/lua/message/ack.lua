-- The recipient is done with messages that it has in hand; nothing is left of them.
-- KEYS: head    ARGV: recipient, reader, ticket of what the reader begins next (or empty), then of each: ticket, delivery
-- Returns: how many were its own still.
local box = message.box(KEYS[1], ARGV[1])
local reader, following = ARGV[2], ARGV[3]
local done = 0
for i = 4, #ARGV, 2 do
  local ticket = ARGV[i]
  local d = message.delivery(box, ticket)
  if d.reader == reader and d.n == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', box.pending, ticket)
    message.erase(box, ticket)
    message.narrow(box, message.sender_of(ticket))
    done = done + 1
  end
end
if following ~= '' then
  local d = message.delivery(box, following)
  if d.reader == reader then
    d.begun = 1
    message.note(box, following, d)
  end
end
return done
