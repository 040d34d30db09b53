-- Read the delivery of a message, in the form of inbox.read_delivery.
-- KEYS: head    ARGV: recipient, ticket
-- Returns: the delivery, or nil if the message was not delivered or is deleted.
return call('HGET', message.box(KEYS[1], ARGV[1]).deliveries, ARGV[2])
