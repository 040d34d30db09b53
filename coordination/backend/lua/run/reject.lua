-- Reject a todo that waits for a person: it fails and is not tried again.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, actor, comment
-- Returns: `settled`, or `idle` if it does not wait for a person.
local todo, who, comment = unpack(ARGV, 2, 4)
if not state_of(todo) or not waits_for_person(todo) or no_new_start(todo) then return reply('idle') end
return reply(decide(todo, 'reject', who, comment))
