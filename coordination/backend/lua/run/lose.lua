-- Handle a lost lease: the todo is tried again at once, up to a limit of lost leases; then it counts as fatal
-- to workers and fails.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, maximum number of lost leases; the time by which the lease must have expired (empty: now),
--   so that no lease is lost because the clock was set after the check; a worker that is known to be dead:
--   its todos, and no others, are lost whatever their leases say
-- Returns: `alive` (renewed or settled meanwhile); or `requeued` or `settled`, the lost attempt, its worker.
local todo, cap, by, dead = unpack(ARGV, 2, 5)
local expiry = call('ZSCORE', leases, member(todo))
local gone = expiry and tonumber(expiry) <= (tonumber(by) or now)
if dead ~= '' then gone = expiry and fact(todo, 'worker') == dead end
if not gone then return reply('alive') end
if state_of(todo) ~= 'running' then
  call('ZREM', leases, member(todo))
  return reply('alive')
end
local worker, attempt = fact(todo, 'worker') or 'its worker', fact(todo, 'attempt')
count('leases_lost')
local lost = tonumber(fact(todo, 'lost') or '0') + 1
local over, too_often = no_new_start(todo), lost >= tonumber(cap)
local again_or_not = (over or too_often) and 'no' or 'yes'
local loss = { 'worker', worker, 'fence', fact(todo, 'fence'), 'again', again_or_not }
announce_todo('todo.lost', todo, emit('todo.lost', todo, unpack(loss)), unpack(loss))
tell_breakers(todo, 'failed', 'worker', 'lost its worker ' .. worker)
if over then
  settle(todo, (ending()), worker .. ' was lost')
  return reply('settled', attempt, worker)
end
if too_often then
  note(todo, 'lost', lost)
  count('todos_poisoned')
  local poison = { 'worker', worker, 'lost', lost }
  announce_todo('todo.poison', todo, emit('todo.poison', todo, unpack(poison)), unpack(poison))
  settle(todo, 'failed', 'poison: its worker was lost ' .. lost .. ' times, last ' .. worker
    .. '; look at what it did then: coord logs ' .. run .. ' ' .. todo .. ', and at the log of that worker')
  return reply('settled', attempt, worker)
end
again(todo, 'lost', 0, '')
return reply('requeued', attempt, worker)
