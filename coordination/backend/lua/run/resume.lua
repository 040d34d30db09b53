-- Resume a paused run.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, actor
-- Returns: `resumed` or the status that does not allow it.
local status = call('HGET', meta, 'status')
if status ~= 'paused' then return reply(status or 'unknown') end
call('HSET', meta, 'status', 'running')
call('HDEL', meta, 'paused')
tell_workers('run.resumed', ARGV[2], emit_of_run('run.resumed', ARGV[2]))
for _, todo in ipairs(call('ZRANGE', ready, 0, -1)) do -- some may still have to wait, but for another reason
  if state_of(todo) == 'parked' then wait_for(todo, 'repository', 'its turn') end
end
dispatch_ready()
return reply('resumed')
