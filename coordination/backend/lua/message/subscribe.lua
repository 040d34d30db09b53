-- Subscribe a recipient to a topic, or end its subscription.
-- KEYS: head    ARGV: recipient, topic, 1 to subscribe or 0
-- Returns: the number of changed subscriptions
local topic = KEYS[1] .. KEY.topic .. ARGV[2]
if ARGV[3] == '0' then return call('SREM', topic, ARGV[1]) end
message.make_known(message.box(KEYS[1], ARGV[1]))
return call('SADD', topic, ARGV[1])
