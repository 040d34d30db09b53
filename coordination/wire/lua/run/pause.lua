-- uses: message
-- Nothing new starts until `resume`; what runs finishes, and what was offered to others of the run goes to whoever can use it now.
-- ARGV: run, who
-- Returns: `paused`, `already` if it was, or the status that does not allow it.
local status = call('HGET', meta, 'status')
if status == 'paused' then return reply('already') end
if status ~= 'running' then return reply(status or 'unknown') end
call('HSET', meta, 'status', 'paused', 'paused', ARGV[2])
tell_workers('run.paused', ARGV[2], emit('run.paused', '', 'by', ARGV[2]))
local all = call('HGETALL', state)
for i = 1, #all, 2 do
  if all[i + 1] == 'dispatched' then give_back(member(all[i])) end
end
return reply('paused')
