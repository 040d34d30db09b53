-- Complete a manual todo.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, actor
-- Returns: `settled`, or `idle` if it does not wait for a person.
local todo, who = unpack(ARGV, 2, 3)
if not state_of(todo) or place_of(todo).kind ~= 'manual' or not waits_for_person(todo)
  or no_new_start(todo) then
  return reply('idle')
end
return reply(decide(todo, 'approve', who, ''))
