-- Gives back what the request holds, and hands it to whoever is next.
-- KEYS: head    ARGV: request, its party
-- Returns: 1, or 0 where it was lost before. A release that is sent twice was one.
head = KEYS[1]
local request = load(ARGV[1])
local done = key(KEY.done, ARGV[2] or ARGV[1])
if not request or request.state ~= 'held' then return call('GET', done) == ARGV[1] and 1 or 0 end
if not let_loose(request) then return 0 end
call('SET', done, ARGV[1], 'PX', DONE_MS)
return 1
