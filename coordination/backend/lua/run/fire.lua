-- A timer is due, or what the todo waited for was handed to it: it may go on.
-- ARGV: run, todo; an empty one: the run's own time is up
-- Returns: `timed_out`, `fired`, `waits` (not all that it needs is free yet, or it stands behind a breaker), `settled` (as failed: there is less by now than it needs) or
--   `idle` (it does not wait for a timer).
local todo = ARGV[2]
local id = member(todo)
local had_timer = call('ZREM', timers, id) == 1

if todo == '' then -- the run ends as a failure of its own: it is undone where its failures are, else cancelled
  local timeout_ms, on_failure, status, cancelled = unpack(call('HMGET', meta, 'timeout_ms', 'on_failure', 'status', 'cancelled'))
  if not had_timer or cancelled or (status ~= 'running' and status ~= 'paused') then return reply('idle') end
  local why = string.format('timed out after %g s', timeout_ms / 1000)
  call('HSET', meta, 'timed_out', why)
  emit('run.timed_out', '', 'why', why)
  if on_failure == 'rollback' then
    roll_back(why, '', 'cancelled')
  else
    call('HSET', meta, 'cancelled', 'its timeout')
    end_all_but_running('cancelled', why)
    have_beat(stop_running())
    finish_if_done()
  end
  return reply('timed_out')
end

local at = state_of(todo)
if not had_timer or (at ~= 'parked' and at ~= 'retrying') or no_new_start(todo) then return reply('idle') end
local p = place_of(todo)
local status, max_parallel, active = unpack(call('HMGET', meta, 'status', 'max_parallel', 'active'))

-- Whoever has not begun gives way to one who has what it needs. Returns whether the repository is free then.
local function put_back(first)
  local was, its = state_of(first), load(member(first))
  local begun = was == 'running' or call('HGET', stranded, p.repo) == first or (its and its.state == 'held')
  if begun then return false end
  local listed = call('ZREM', ready, first) == 1
  if was == 'dispatched' then
    step_down(first, p)
    call('SADD', owed, first)
    move(first, 'ready')
  end
  if listed or was == 'dispatched' then call('ZADD', queued, 0, queue_key(place_of(first), first)) end
  return true
end

local function can_start()
  if not goes_on(status) or (max_parallel ~= '0' and tonumber(active) >= tonumber(max_parallel)) then return false end
  local first = call('HGET', busy, p.repo)
  return not first or first == todo or put_back(first)
end

if waits_for_person(todo) then
  local verdict = string.match(fact(todo, 'gate') or '', '%a+$')
  decide(todo, verdict, 'the timeout of its gate', '')
  return reply('settled')
end

if goes_on(status) and stands_behind(todo, p) then return reply('waits') end

local request = load(id)
if request and request.state == 'waiting' and goes_on(status) then
  local beyond = shortfall(request)
  if beyond then
    settle(todo, 'failed', beyond)
    return reply('settled')
  end
  hand_over(names_of(request)) -- a holder may have expired, and nobody saw it
  request = load(id)
  if request.state == 'waiting' then
    await(todo, p, request, taken(request))
    pump()
    return reply('waits')
  end
  call('ZREM', timers, id)
end

wait_no_more(todo)
local offered = request and request.state == 'held' and can_start()
if request and not offered then give_back(id) end -- to whoever can use it now; its rank is kept
if offered then
  move(todo, 'ready')
  keep_for(p, todo, FIRST)
elseif call('HGET', busy, p.repo) == todo then -- parked: the repository was kept for it
  move(todo, 'ready')
  keep_for(p, todo, turn_of(todo, p))
else
  enqueue(todo)
end
pump()
return reply('fired')
