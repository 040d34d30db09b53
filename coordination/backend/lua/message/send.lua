-- A message into the inbox of one recipient.
-- KEYS: head
-- ARGV: recipient, then the letter as message.read takes it: top, body, terms
-- Returns: its offset; 0 where it was there before; -1 where nobody knows the recipient.
return message.send(KEYS[1], ARGV[1], message.read(ARGV[2], ARGV[3], ARGV[4]))
