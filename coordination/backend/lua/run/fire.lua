-- Continue a todo whose timer is due or whose needs were granted.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo; an empty todo: the time limit of the run
-- Returns: `timed_out`, `fired`, `waits` (its needs are not free yet, or a breaker refuses it), `settled` (as
--   failed: its needs exceed the capacity by now) or `idle` (it does not wait for a timer).
local todo = ARGV[2]
local id = member(todo)
local had_timer = call('ZREM', timers, id) == 1

if todo == '' then -- the run fails by itself: it is rolled back if its failures are, else cancelled
  local values = call('HMGET', meta, 'timeout_ms', 'on_failure', 'status', 'cancelled')
  local timeout_ms, on_failure, status, cancelled = unpack(values)
  if not had_timer or cancelled or (status ~= 'running' and status ~= 'paused') then return reply('idle') end
  local why = string.format('timed out after %g s', timeout_ms / 1000)
  call('HSET', meta, 'timed_out', why)
  emit_of_run('run.timed_out', nil, 'why', why)
  if on_failure == 'rollback' then
    roll_back(why, '', 'cancelled')
  else
    call('HSET', meta, 'cancelled', 'its timeout')
    end_all_but_running('cancelled', why)
    request_heartbeats(stop_running())
    finish_if_done()
  end
  return reply('timed_out')
end

local at = state_of(todo)
if not had_timer or (at ~= 'parked' and at ~= 'retrying') or no_new_start(todo) then return reply('idle') end
local p = place_of(todo)
local status, max_parallel, active = unpack(call('HMGET', meta, 'status', 'max_parallel', 'active'))

-- Replace a reserved todo that has not begun by one that has its needs. Return whether the repository is free
-- then.
local function put_back(first)
  local was, its = state_of(first), load(member(first))
  local begun = was == 'running' or call('HGET', stranded, p.lane) == first or (its and its.state == 'held')
  if begun then return false end
  local listed = call('ZREM', ready, first) == 1
  if was == 'dispatched' then
    release_worker(first, p)
    call('SADD', unsent, first)
    move(first, 'ready')
  end
  if listed or was == 'dispatched' then call('ZADD', queued, 0, queue_key(place_of(first), first)) end
  return true
end

local function can_start()
  local full = max_parallel ~= '0' and tonumber(active) >= tonumber(max_parallel)
  if full or not goes_on(status) then return false end
  local first = call('HGET', occupant, p.lane)
  return not first or first == todo or put_back(first)
end

if waits_for_person(todo) then
  local question, reason = facts_of(todo, 'question', 'wait_reason')
  if question and reason == 'budget' then -- a new day, with a budget of its own
    erase(todo, 'question')
    clear_wait(todo)
    enqueue(todo)
    dispatch_ready()
    return reply('fired')
  end
  if question then return reply('waits') end -- for an answer
  local verdict = string.match(fact(todo, 'gate') or '', '%a+$')
  decide(todo, verdict, 'the timeout of its gate', '')
  return reply('settled')
end

if goes_on(status) and verdicts.park(todo, p) then return reply('waits') end

local request = load(id)
if request and request.state == 'waiting' and goes_on(status) then
  local beyond = shortfall(request)
  if beyond then
    settle(todo, 'failed', beyond)
    return reply('settled')
  end
  offer_names(names_of(request)) -- a holder may have expired unnoticed
  request = load(id)
  if request.state == 'waiting' then
    await(todo, p, request, blocking_names(request))
    dispatch_ready()
    return reply('waits')
  end
  call('ZREM', timers, id)
end

clear_wait(todo)
local offered = request and request.state == 'held' and can_start()
if request and not offered then give_back(id) end -- to one that can use it now; the request keeps its rank
if offered then
  move(todo, 'ready')
  keep_for(p, todo, FIRST)
elseif call('HGET', occupant, p.lane) == todo then -- it was parked: the repository was reserved for it
  move(todo, 'ready')
  keep_for(p, todo, turn_of(todo, p))
else
  enqueue(todo)
end
dispatch_ready()
return reply('fired')
