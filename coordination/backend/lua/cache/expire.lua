-- Delete a part of the expired entries, for caches without writers.
-- KEYS: head    ARGV: maximum number of entries
-- Returns: the number of deleted entries
return expire(tonumber(ARGV[1]))
