-- What a todo that runs has written of its output so far, for an attempt after this one.
-- ARGV: run, todo, fence, JSON
-- Returns: `kept`, or `stale` (somebody else holds it).
local todo, fence, json = unpack(ARGV, 2, 4)
if not held_by(todo, fence) then return reply('stale') end
keep_so_far(todo, json)
return reply('kept')
