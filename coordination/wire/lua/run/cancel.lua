-- uses: message
-- Nothing new starts; what runs is told to stop. Ended todos stay as they are.
-- ARGV: run, who
-- Returns: `cancelled` or `ended`.
local status = call('HGET', meta, 'status')
if status ~= 'running' and status ~= 'paused' then return reply('ended') end
call('HSET', meta, 'cancelled', ARGV[2])
tell_workers('run.cancelled', ARGV[2], emit('run.cancelled', '', 'by', ARGV[2]))
end_all_but_running('cancelled', 'cancelled by ' .. ARGV[2])
stop_running()
finish_if_done()
return reply('cancelled')
