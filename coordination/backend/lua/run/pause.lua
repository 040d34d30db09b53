-- Pause a run: nothing new starts until `resume`, running todos finish, and offers to its other todos go to
-- other requests.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, actor
-- Returns: `paused`, `already` if it was, or the status that does not allow it.
local status = call('HGET', meta, 'status')
if status == 'paused' then return reply('already') end
if status ~= 'running' then return reply(status or 'unknown') end
call('HSET', meta, 'status', 'paused', 'paused', ARGV[2])
tell_workers('run.paused', ARGV[2], emit_of_run('run.paused', ARGV[2]))
for _, todo in ipairs(call('ZRANGE', sent, 0, -1)) do give_back(member(todo)) end -- the dispatched todos
return reply('paused')
