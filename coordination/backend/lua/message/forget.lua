-- Delete a recipient and its inbox.
-- KEYS: head    ARGV: recipient, ms for which it must have been silent (0: any)
-- Returns: 1, or 0 if it is unknown or was not silent.
local last = call('ZSCORE', KEYS[1] .. KEY.recipients, ARGV[1])
if not last or tonumber(last) > now - tonumber(ARGV[2]) then return 0 end
call('ZREM', KEYS[1] .. KEY.recipients, ARGV[1])
local box = message.box(KEYS[1], ARGV[1])
call('DEL', box.stream, box.ready, box.pending, box.deliveries, box.lanes, box.facts, box.seen)
return 1
