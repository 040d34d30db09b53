-- Gives back what the request holds, and hands it to whoever is next.
-- KEYS: head    ARGV: request
-- Returns: 1, or 0 where it was lost before. A release that is sent twice was one.
head = KEYS[1]
local request = load(ARGV[1])
if not request or request.state ~= 'held' then return call('EXISTS', key(KEY.done, ARGV[1])) end
if not let_loose(request) then return 0 end
call('SET', key(KEY.done, ARGV[1]), 1, 'PX', DONE_MS)
return 1
