-- A recipient is known no longer, and nothing of it is left.
-- KEYS: head    ARGV: recipient, ms that it must not have been heard of (0: whatever)
-- Returns: 1, or 0 where it is unknown or was heard of.
local last = call('ZSCORE', KEYS[1] .. KEY.recipients, ARGV[1])
if not last or tonumber(last) > now - tonumber(ARGV[2]) then return 0 end
call('ZREM', KEYS[1] .. KEY.recipients, ARGV[1])
local box = message.box(KEYS[1], ARGV[1])
call('DEL', box.stream, box.ready, box.pending, box.deliveries, box.lanes, box.facts, box.seen)
return 1
