-- Start a run that was written in pieces. A second call changes nothing.
-- KEYS: after those of every step, further keys of the run.
-- ARGV: run, then the repositories of its change set that it writes, each with its branch and the tip from
--   which the run was made (or empty)
-- Returns: `sealed` (…, the first level's deliveries), `known`, or, while the run stays a draft, the reply of
--   change_set.take
if call('HGET', meta, 'status') ~= 'draft' then return reply('known') end
local refused = change_set.take({ unpack(ARGV, 2) })
if refused then return reply(refused) end
call('HSET', meta, 'status', 'running', 'started_at', now)
call('ZADD', runs, now, run)
call('ZADD', live, now, run)
for i = 1, OWN do call('PERSIST', KEYS[i]) end
for i = OWN + SHARED + 1, #KEYS do call('PERSIST', KEYS[i]) end
local timeout_ms = call('HGET', meta, 'timeout_ms')
-- the timer of the run itself: no todo has an empty name
if timeout_ms then call('ZADD', timers, now + timeout_ms, member('')) end
count('runs_started')
emit_of_run('run.started', call('HGET', meta, 'actor') or '')
local header = {}
if shape.is_by_level() then header = shape.open_next_level() else shape.open_all() end
finish_if_done()
return reply('sealed', header)
