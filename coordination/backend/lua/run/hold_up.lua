-- Trouble that passes keeps the holder from its work (git was killed, the disk is full): the todo waits without a worker's slot, twice
-- as long each time, and uses up no attempt. The next attempt that ends in another way starts the count anew.
-- ARGV: run, todo, fence, why, the first delay in ms, `worker` where it is none of the todo's own, how often at most (0: without end)
-- Returns: `parked`, `settled` (as failed after the last time; as skipped or cancelled, since nothing new starts any more) or `stale`.
local LONGEST_MS = 60000
local todo, fence, why, delay_ms, blame, limit = unpack(ARGV, 2, 7)
if not held_by(todo, fence) then return reply('stale') end
tell_breakers(todo, blame == 'worker' and 'failed' or 'parked', blame, why)
if no_new_start(todo) then
  local outcome, reason = ending()
  settle(todo, outcome == 'cancelled' and outcome or 'skipped', reason)
  return reply('settled')
end
local times = (tonumber(fact(todo, 'held_up')) or 0) + 1
if limit ~= '0' then -- what was none of its own counts for none of these
  local limited = (tonumber(fact(todo, 'held_up_limited')) or 0) + 1
  if limited > tonumber(limit) then
    settle(todo, 'failed', string.match(why, '^[^\n]*') .. ' (' .. limited .. ' times)')
    return reply('settled')
  end
  note(todo, 'held_up_limited', limited)
end
note(todo, 'held_up', times)
park(todo, 'trouble', why, math.min(delay_ms * 2 ^ math.min(times - 1, 20), LONGEST_MS))
return reply('parked')
