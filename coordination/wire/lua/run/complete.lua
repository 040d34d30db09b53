-- A person did a manual todo.
-- ARGV: run, todo, who
-- Returns: `settled`, or `idle` where it does not wait for a person.
local todo, who = unpack(ARGV, 2, 3)
if state_of(todo) ~= 'parked' or place_of(todo).kind ~= 'manual' then return reply('idle') end
note(todo, 'worker', who)
settle(todo, 'succeeded', '')
return reply('settled')
