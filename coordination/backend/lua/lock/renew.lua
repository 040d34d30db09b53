-- Prolongs what the request holds by its ttl, if it still holds all of it.
-- KEYS: head    ARGV: request
-- Returns: 1, or 0 where it is lost.
local request = load(ARGV[1])
if request and request.state == 'held' and prolong(request) then return 1 end
return 0
