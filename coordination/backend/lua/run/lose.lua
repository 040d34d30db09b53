-- The lease ran out: the todo is tried again at once, up to a cap of its own; then it is poison to its workers, and has failed.
-- ARGV: run, todo, how many leases may be lost, by when (empty: now): a clock that is set after that was looked at costs nobody a lease;
--   a worker that is known to be dead: then what it runs is lost whatever the lease says, and nothing else is
-- Returns: `alive` (renewed or settled in between), `requeued` or `settled`.
local todo, cap, by, dead = unpack(ARGV, 2, 5)
local expiry = call('ZSCORE', leases, member(todo))
local gone = expiry and tonumber(expiry) <= (tonumber(by) or now)
if dead ~= '' then gone = expiry and fact(todo, 'worker') == dead end
if not gone then return reply('alive') end
if state_of(todo) ~= 'running' then
  call('ZREM', leases, member(todo))
  return reply('alive')
end
local worker = fact(todo, 'worker') or 'its worker'
count('leases_lost')
local lost = tonumber(fact(todo, 'lost') or '0') + 1
local over, too_often = no_new_start(todo), lost >= tonumber(cap)
emit('todo.lost', todo, 'worker', worker, 'fence', fact(todo, 'fence'), 'again', (over or too_often) and 'no' or 'yes')
tell_breakers(todo, 'failed', 'worker', 'lost its worker ' .. worker)
if over then
  settle(todo, (ending()), worker .. ' was lost')
  return reply('settled')
end
if too_often then
  note(todo, 'lost', lost)
  count('todos_poisoned')
  emit('todo.poison', todo, 'worker', worker, 'lost', lost)
  settle(todo, 'failed', 'poison: its worker was lost ' .. lost .. ' times, last ' .. worker
    .. '; look at what it did then: coord logs ' .. run .. ' ' .. todo .. ', and at the log of that worker')
  return reply('settled')
end
again(todo, 'lost', 0, '')
return reply('requeued')
