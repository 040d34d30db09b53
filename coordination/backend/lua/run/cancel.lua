-- Cancel a run: nothing new starts, and running todos are told to stop. Ended todos keep their state. A
-- second call changes nothing.
-- ARGV: run, actor
-- Returns: `cancelled` or `ended`.
local status = call('HGET', meta, 'status')
if status ~= 'running' and status ~= 'paused' then return reply('ended') end
if call('HSETNX', meta, 'cancelled', ARGV[2]) == 0 then return reply('cancelled') end
tell_workers('run.cancelled', ARGV[2], emit_of_run('run.cancelled', ARGV[2]))
end_all_but_running('cancelled', 'cancelled by ' .. ARGV[2])
stop_running()
finish_if_done()
return reply('cancelled')
