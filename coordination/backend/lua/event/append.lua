-- Write an event of an operation that is no step: a command, a check, a clean-up.
-- KEYS: head    ARGV: kind, subject, then names and values of its other fields
-- Returns: its id
return announce(unpack(ARGV))
