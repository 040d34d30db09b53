-- The recipient cannot do a message: it is delivered again after a while, or dead after too many deliveries. What else its
-- reader has in hand of the same sender goes back, and waits behind it.
-- KEYS: head    ARGV: recipient, reader, ticket, delivery, why, wait in ms after the first time (doubled each), deliveries
-- Returns: nothing where it is not the reader's; else `waits` or `dead`, then the tickets that went back.
local box = message.box(KEYS[1], ARGV[1])
local reader, ticket, why, wait_ms, deliveries = ARGV[2], ARGV[3], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local d = message.delivery(box, ticket)
if d.reader ~= reader or d.n ~= tonumber(ARGV[4]) then return {} end
local sender = message.sender_of(ticket)
d.begun = 1
message.note(box, ticket, d)
local returned = message.free_lane(box, sender, { [ticket] = why }, deliveries)
if redis.call('ZREM', box.ready, ticket) == 0 then return { 'dead', unpack(returned) } end
redis.call('ZADD', box.pending, message.now + wait_ms * 2 ^ d.failed, ticket)
redis.call('HSET', box.lanes, sender, '1 ' .. message.NOBODY)
return { 'waits', unpack(returned) }
