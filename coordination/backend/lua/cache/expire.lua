-- Takes away a piece of what has expired, for caches into which nobody writes.
-- KEYS: head    ARGV: at most so many entries
-- Returns: how many there were
return expire(tonumber(ARGV[1]))
