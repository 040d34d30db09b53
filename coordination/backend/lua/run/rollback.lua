-- Roll back a run: nothing new starts, running todos are stopped, then compensations are executed in reverse
-- order. Compensations that failed in an earlier rollback are tried again.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, actor, why
-- Returns: `rolling_back`, `already` (it is), `done` (it was), or the status that does not allow it.
local who, why = unpack(ARGV, 2, 3)
local status = call('HGET', meta, 'status')
if status == 'rolling_back' then return reply('already') end
if status == 'rolled_back' then return reply('done') end
if not status or status == 'draft' then return reply(status or 'unknown') end
if status ~= 'rollback_failed' then
  roll_back(why, who, 'cancelled')
  return reply('rolling_back')
end
undo_again(why, who)
return reply('rolling_back')
