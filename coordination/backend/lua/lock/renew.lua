-- Renew the grants of a request for its ttl, if it still holds all of them.
-- KEYS: head    ARGV: request
-- Returns: 1, or 0 if it lost them.
local request = load(ARGV[1])
if request and request.state == 'held' and prolong(request) then return 1 end
return 0
