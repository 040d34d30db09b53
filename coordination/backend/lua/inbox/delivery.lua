-- Who has a message in hand, as it is kept: see inbox.read_delivery.
-- KEYS: head    ARGV: recipient, ticket
-- Returns: the delivery, or nil where nobody was handed it or it is gone.
return call('HGET', message.box(KEYS[1], ARGV[1]).deliveries, ARGV[2])
