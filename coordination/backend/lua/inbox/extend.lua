-- Extend deliveries of a reader by another idle time.
-- KEYS: head    ARGV: recipient, reader, host and pid of the reader, idle time in ms, then for each message:
--   ticket, delivery
-- Returns: the tickets that the reader no longer has.
local box = message.box(KEYS[1], ARGV[1])
inbox.allow_when_full(box)
inbox.record_reader(box, ARGV[2], ARGV[3])
local own, lost = inbox.own(box, ARGV[2], ARGV, 5, #ARGV)
for _, ticket in ipairs(own) do call('ZADD', box.pending, now + ARGV[4], ticket) end
return lost
