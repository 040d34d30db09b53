-- The holder cannot begin yet: the todo waits without a worker's slot and asks again after a delay.
-- ARGV: run, todo, fence, what it waits for, delay in ms
-- Returns: `parked` or `stale`.
local todo, fence, why, delay_ms = unpack(ARGV, 2, 5)
if not held_by(todo, fence) then return reply('stale') end
park(todo, why, delay_ms)
return reply('parked')
