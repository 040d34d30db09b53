-- A recipient is known from now on: what is sent to it is kept until it comes.
-- KEYS: head    ARGV: recipient    Returns: its epoch.
local box = message.box(KEYS[1], ARGV[1])
message.meet(box)
return call('HGET', box.facts, 'epoch')
