-- Turn a draft imported from another Redis into a live run. A second call changes nothing. Replaces what
-- belonged to the other server: timers, a fence above all fences of the run, and a new message for each
-- waiting todo.
-- KEYS: after those of every step, further keys of the run.
-- ARGV: run, its status, when it was started in ms, its highest fence, actor, then a todo and when it is due
--   in ms for each timer
-- Returns: `adopted`, or `known` if it is no draft.
local status, started_at, fence, who = unpack(ARGV, 2, 5)
if call('HGET', meta, 'status') ~= 'draft' then return reply('known') end
local newest = call('GET', head .. KEY.fence) or '0'
if tonumber(newest) < tonumber(fence) then call('SET', head .. KEY.fence, fence) end
call('HSET', meta, 'status', status, 'imported_at', now)
call('ZADD', runs, started_at, run)
if status == 'rollback_failed' then call('ZADD', head .. KEY.half_undone, now, run) end
for i = 1, OWN do call('PERSIST', KEYS[i]) end
for i = OWN + SHARED + 1, #KEYS do call('PERSIST', KEYS[i]) end
if status ~= 'paused' then return reply('adopted') end
call('ZADD', live, started_at, run)
for i = 6, #ARGV, 2 do call('ZADD', timers, ARGV[i + 1], member(ARGV[i])) end
local timeout_ms = call('HGET', meta, 'timeout_ms')
if timeout_ms then call('ZADD', timers, now + timeout_ms, member('')) end -- counted from now
local all = call('HGETALL', state)
for i = 1, #all, 2 do -- under `levels` messages were sent with a chord that does not exist here
  local at = all[i + 1]
  if at == 'ready' or at == 'parked' or at == 'retrying' then call('SADD', unsent, all[i]) end
end
emit_of_run('run.imported', who)
return reply('adopted')
