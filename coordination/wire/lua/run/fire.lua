-- A timer is due, or a seat came free: the todo may go on.
-- ARGV: run, todo
-- Returns: `fired` or `idle` (it does not wait for a timer).
local todo = ARGV[2]
local had_timer = call('ZREM', timers, member(todo)) == 1
local ticket = fact(todo, 'ticket')
if ticket then
  call('ZREM', seat_queue, ticket)
  forget(todo, 'ticket')
end
local at = state_of(todo)
if not (had_timer or ticket) or (at ~= 'parked' and at ~= 'retrying') then return reply('idle') end
local p = place_of(todo)
forget(todo, 'waits_for')
if call('HGET', busy, p.repo) == todo then -- parked: the repository was kept for it
  move(todo, 'ready')
  keep_for(p, todo)
else
  enqueue(todo)
end
pump()
return reply('fired')
