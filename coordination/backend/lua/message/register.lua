-- Make a recipient known: from now on its messages are kept.
-- KEYS: head    ARGV: recipient    Returns: its epoch.
local box = message.box(KEYS[1], ARGV[1])
message.make_known(box)
return call('HGET', box.facts, 'epoch')
