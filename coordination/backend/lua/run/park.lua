-- Park a todo that cannot begin yet: it waits without a worker's slot and asks again after a delay.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, fence, what it waits for, delay in ms
-- Returns: `parked`, `settled` (as skipped or cancelled if nothing new starts) or `stale`.
local todo, fence, why, delay_ms = unpack(ARGV, 2, 5)
if not held_by(todo, fence) then return reply('stale') end
tell_breakers(todo, 'parked')
if no_new_start(todo) then -- else its timer would start it
  local outcome, reason = ending()
  settle(todo, outcome == 'cancelled' and outcome or 'skipped', reason)
  return reply('settled')
end
park(todo, 'worker', why, delay_ms)
return reply('parked')
