-- A reader is still at it: what it has in hand is not taken over for another idle time.
-- KEYS: head    ARGV: recipient, reader, host and pid of the reader, idle time in ms, then of each: ticket, delivery
-- Returns: the tickets that are not its own any more.
local box = message.box(KEYS[1], ARGV[1])
message.meet(box)
message.see(box, ARGV[2], ARGV[3])
local lost = {}
for i = 5, #ARGV, 2 do
  local d = message.delivery(box, ARGV[i])
  if d.reader == ARGV[2] and d.n == tonumber(ARGV[i + 1]) then
    redis.call('ZADD', box.pending, message.now + ARGV[4], ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
