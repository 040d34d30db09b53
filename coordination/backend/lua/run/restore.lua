-- Undo what the run has begun since a checkpoint, as in a rollback; todos that had succeeded by then stay.
-- Then the run ends as cancelled, to be retried. A repeated call tries failed compensations again.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, actor, the checkpoint's name
-- Returns: `rolling_back`, `already` (it is), `unknown` (no such checkpoint), or the status that does not
--   allow it.
local who, name = unpack(ARGV, 2, 3)
local values = call('HMGET', meta, 'status', 'restoring', 'named.' .. name)
local status, restoring, checkpoint_json = unpack(values)
if not status or not checkpoint_json then return reply('unknown') end
if restoring and restoring ~= name then return reply(status) end
if status == 'rolling_back' then return reply(restoring and 'already' or status) end
if status == 'draft' or status == 'rolled_back' or (status == 'rollback_failed' and not restoring) then
  return reply(status)
end
local why = 'restored to checkpoint ' .. name
if status == 'rollback_failed' then
  undo_again(why, who)
  return reply('rolling_back')
end
call('HSET', meta, 'restoring', name)
for _, todo in ipairs(cjson.decode(checkpoint_json).succeeded) do
  local intent = state_of(todo) == 'succeeded' and fact(todo, 'intent')
  if intent then -- without an intent it is passed
    note(todo, 'kept_intent', intent)
    erase(todo, 'intent')
  end
end
roll_back(why, who, 'cancelled')
return reply('rolling_back')
