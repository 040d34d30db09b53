-- A message into the inbox of one recipient.
-- KEYS: head
-- ARGV: recipient, then the letter as message.letter has it: sender, sequence, head, body, ttl in ms, priority, limit, retention
--       in ms, whether nobody acknowledges it
-- Returns: its offset; 0 where it was there before; -1 where nobody knows the recipient.
return message.send(KEYS[1], ARGV[1], message.letter(unpack(ARGV, 2)))
