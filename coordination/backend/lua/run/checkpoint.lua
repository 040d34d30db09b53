-- Keep the output that a running todo has written so far, for its next attempt.
-- ARGV: run, todo, fence, JSON
-- Returns: `kept`, or `stale` (another attempt holds it).
local todo, fence, json = unpack(ARGV, 2, 4)
if not held_by(todo, fence) then return reply('stale') end
keep_output(todo, json)
return reply('kept')
