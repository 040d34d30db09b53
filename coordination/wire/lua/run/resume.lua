-- A paused run goes on.
-- ARGV: run, who
-- Returns: `resumed` or the status that does not allow it.
local status = call('HGET', meta, 'status')
if status ~= 'paused' then return reply(status or 'unknown') end
call('HSET', meta, 'status', 'running')
emit('run.resumed', '', 'by', ARGV[2])
pump()
return reply('resumed')
