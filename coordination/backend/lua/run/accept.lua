-- Accept by hand a todo that could not be undone: it counts as undone, and its predecessors follow.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, actor, reason
-- Returns: `accepted`, or `idle` if it is not a compensation that failed or waits.
local todo, who, reason = unpack(ARGV, 2, 4)
local at, status = state_of(todo), call('HGET', meta, 'status')
local waits = status == 'rolling_back' and fact(todo, 'undo')
  and (at == 'parked' or at == 'retrying' or at == 'dispatched' or at == 'ready')
if at ~= 'compensation_failed' and not waits then return reply('idle') end
note(todo, 'accepted', reason)
note(todo, 'accepted_by', who)
local entry = emit('todo.accepted', todo, 'by', who, 'reason', reason)
announce_todo('todo.accepted', todo, entry, 'actor', who, 'title', first_line(reason))
if at == 'compensation_failed' then
  call('HINCRBY', meta, 'open', 1)
  if status ~= 'rolling_back' then turn_back('accepted: ' .. todo, who) end
end
settle(todo, 'succeeded', '')
return reply('accepted')
