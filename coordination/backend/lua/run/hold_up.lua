-- Park a todo because of transient trouble (git was killed, the disk is full): it waits without a worker's
-- slot, twice as long each time (for the given delay while a pull request is not ready, a service starts or a
-- limit of an agent lasts), and uses up no attempt. An attempt that ends in another way resets the count.
-- A question to a person (the reason `person`) waits for the answer, and keeps neither slot nor repository.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, fence, why, the first delay in ms, `worker` if the trouble is not the todo's own, maximum
--   number of delays (0: no limit), the reason (WaitReason in runs/records.py)
-- Returns: `parked`, `settled` (as failed after the last delay; as skipped or cancelled if nothing new
--   starts) or `stale`.
local LONGEST_MS = 60000
local todo, fence, why, delay_ms, blame, limit, reason = unpack(ARGV, 2, 8)
if not held_by(todo, fence) then return reply('stale') end
if reason == 'limit' then agents.limit(todo, delay_ms, why) end
tell_breakers(todo, blame == 'worker' and 'failed' or 'parked', blame, why)
if no_new_start(todo) then
  local outcome, reason = ending()
  settle(todo, outcome == 'cancelled' and outcome or 'skipped', reason)
  return reply('settled')
end
local times = (tonumber(fact(todo, 'held_up')) or 0) + 1
if limit ~= '0' then -- trouble that is not the todo's own does not count
  local limited = (tonumber(fact(todo, 'held_up_limited')) or 0) + 1
  if limited > tonumber(limit) then
    settle(todo, 'failed', string.match(why, '^[^\n]*') .. ' (' .. limited .. ' times)')
    return reply('settled')
  end
  note(todo, 'held_up_limited', limited)
end
note(todo, 'held_up', times)
if reason == 'person' then
  agents.ask_person(todo, 'a person: coord answer ' .. todo .. ' "TEXT"; ' .. why, why)
  return reply('parked')
end
local pause_ms = math.min(delay_ms * 2 ^ math.min(times - 1, 20), LONGEST_MS)
local as_said = reason == 'request' or reason == 'service' or reason == 'limit' or reason == 'budget'
park(todo, reason, why, as_said and tonumber(delay_ms) or pause_ms)
return reply('parked')
