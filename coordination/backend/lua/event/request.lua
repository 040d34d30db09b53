-- Ask for kinds that are otherwise only counted, or prolong that. Expired requests are deleted.
-- KEYS: head    ARGV: how long in ms, then kinds
-- Returns: the number of kinds that are asked for now
local requests = head .. KEY.event_requests
call('ZREMRANGEBYSCORE', requests, '-inf', now)
for i = 2, #ARGV do call('ZADD', requests, 'GT', now + ARGV[1], ARGV[i]) end
return call('ZCARD', requests)
