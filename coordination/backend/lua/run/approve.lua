-- Approve a todo that waits at a gate; a manual todo is done by that.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, actor, comment
-- Returns: `approved`, `settled` (it was manual), or `idle` if it does not wait for a person.
local todo, who, comment = unpack(ARGV, 2, 4)
if not state_of(todo) or not waits_for_person(todo) or no_new_start(todo) then return reply('idle') end
return reply(decide(todo, 'approve', who, comment))
