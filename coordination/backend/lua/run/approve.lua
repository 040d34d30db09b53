-- A person lets a todo go on at whose gate it waits; a manual one is done by that.
-- ARGV: run, todo, who, comment
-- Returns: `approved`, `settled` (it was manual), or `idle` where it does not wait for a person.
local todo, who, comment = unpack(ARGV, 2, 4)
if not state_of(todo) or not waits_for_person(todo) or no_new_start(todo) then return reply('idle') end
return reply(decide(todo, 'approve', who, comment))
