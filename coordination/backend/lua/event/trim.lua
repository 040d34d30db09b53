-- Delete events up to a position; its own entry stays, so that a reader there sees no gap. Redis deletes
-- whole nodes of about 100 entries.
-- KEYS: head    ARGV: position
-- Returns: the number of deleted events
return call('XTRIM', head .. KEY.events, 'MINID', '~', ARGV[1])
