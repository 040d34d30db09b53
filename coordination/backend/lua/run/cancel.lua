-- Cancel a run: nothing new starts, and running todos are notified to stop. Ended todos keep their state. A
-- second call changes nothing.
-- A landing says `queueing` in the record of a todo before it puts a request into a merge queue, and looks
-- whether the run is cancelled after that. So this step sees the record, or the landing the cancellation.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, actor
-- Returns: `cancelled`, `ended`, or `queued` (a merge queue may have a request of its landing).
local status = call('HGET', meta, 'status')
if status ~= 'running' and status ~= 'paused' then return reply('ended') end
if call('HEXISTS', meta, 'cancelled') == 1 then return reply('cancelled') end
if string.find(call('HGET', meta, 'plan_id') or '', '^%l+:') then
  local records = call('HGETALL', checkpoint)
  for i = 1, #records, 2 do
    local is_json, known = pcall(cjson.decode, records[i + 1])
    local page = is_json and type(known) == 'table' and known.queueing
    local at = state_of(records[i])
    if page and page ~= '' and at and not ENDED[at] then return reply('queued') end
  end
end
call('HSET', meta, 'cancelled', ARGV[2])
tell_workers('run.cancelled', ARGV[2], emit_of_run('run.cancelled', ARGV[2]))
end_all_but_running('cancelled', 'cancelled by ' .. ARGV[2])
stop_running()
finish_if_done()
return reply('cancelled')
