-- Put a message into the inbox of one recipient.
-- KEYS: head
-- ARGV: recipient, then top, body and terms of message.read
-- Returns: its offset; 0 if it was sent before; -1 for an unknown recipient.
return message.send(KEYS[1], ARGV[1], message.read(ARGV[2], ARGV[3], ARGV[4]))
