-- A reader is still at it: what it has in hand is not taken over for another idle time.
-- KEYS: head    ARGV: recipient, reader, host and pid of the reader, idle time in ms, then of each: ticket, delivery
-- Returns: the tickets that are not its own any more.
local box = message.box(KEYS[1], ARGV[1])
inbox.though_full(box)
inbox.see(box, ARGV[2], ARGV[3])
local own, lost = inbox.own(box, ARGV[2], ARGV, 5, #ARGV)
for _, ticket in ipairs(own) do call('ZADD', box.pending, now + ARGV[4], ticket) end
return lost
