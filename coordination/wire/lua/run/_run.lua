-- What the steps of a run share. Every step runs whole or not at all, and is one move of the state machine of
-- runs/__init__.py.
-- KEYS: wire/keys.py, Keys.step().   ARGV[1]: run id; the step's own arguments follow.

local OWN, SHARED = 21, 8 -- keys that belong to the run alone, and those that all runs share
local meta, spec, place, children, levels, state, facts, pending, opened, ready, queued, busy, owed, stranded, sent, tips, output,
  checkpoint, parents, behind, events = unpack(KEYS, 1, OWN)
local runs, live, leases, holders, stops, timers, counters = unpack(KEYS, OWN + 1)
head = KEYS[OWN + SHARED]
local run = ARGV[1]

local RECHECK_MS = 5000 -- who waits is told by who frees it; this catches holders that expired, and a teller that died in between
local FIRST = -1 -- in `ready`, of who has what it needs: it keeps that from others
local EVENTS_KEPT = 100000
local TOLD_MS, TOLD_AT_MOST = 60000, 1000 -- a worker that reads none of them learns it from its heartbeat
local NOWHERE = '-' -- the repository of a milestone: a person approves it, and nothing is done
local ENDED = {
  succeeded = true, failed = true, skipped = true, cancelled = true, compensated = true, compensation_failed = true,
}

local sends = {} -- what the caller has to send to the workers: {todo, attempt, repo, host, level, index, size}

local function fact(todo, name) return call('HGET', facts, todo .. ' ' .. name) end
local function note(todo, name, value) call('HSET', facts, todo .. ' ' .. name, value) end
local function erase(todo, name) call('HDEL', facts, todo .. ' ' .. name) end
-- What an attempt leaves is told apart from what undoing it leaves: people are shown both.
local function note_of_attempt(todo, name, value) note(todo, (fact(todo, 'undo') and 'undo_' or '') .. name, value) end
local function state_of(todo) return call('HGET', state, todo) end
local function member(todo) return run .. ' ' .. todo end
local function count(what) call('HINCRBY', counters, what, 1) end
local function goes_on(status) return status == 'running' or status == 'rolling_back' end

local function emit(what, todo, ...)
  return call('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'what', what, 'todo', todo, ...)
end

local places = {}

local function place_of(todo) -- it never changes
  if places[todo] then return places[todo] end
  local order, level, repo, kind, priority, wants =
    string.match(call('HGET', place, todo), '^(%S+) (%S+) (%S+) (%S+) (%S+) ?(.*)$')
  places[todo] = { order = tonumber(order), level = level, repo = repo, kind = kind, priority = priority, wants = wants }
  return places[todo]
end

local function move(todo, to)
  local from = state_of(todo)
  if from == to then return end
  call('HSET', state, todo, to)
  call('HINCRBY', meta, 'n.' .. from, -1)
  call('HINCRBY', meta, 'n.' .. to, 1)
  note(todo, 'since', now)
  if ENDED[to] then count('todos_' .. to) end
  local attempt, undoing = unpack(call('HMGET', facts, todo .. ' attempt', todo .. ' undo'))
  if undoing then return emit('todo.' .. to, todo, 'attempt', attempt, 'undo', undoing) end
  emit('todo.' .. to, todo, 'attempt', attempt)
end

local function delivery(todo)
  local p = place_of(todo)
  local host, size = unpack(call('HMGET', meta, 'host.' .. p.repo, 'size.' .. p.level))
  local attempt, index, undoing = unpack(call('HMGET', facts, todo .. ' attempt', todo .. ' index', todo .. ' undo'))
  if undoing then size = '0' end -- no level waits for it
  return { todo, attempt, p.repo, host or '', p.level, index or '0', size or '0' }
end

-- A run does the todos of one repository one at a time. `busy` names the one that the repository is kept for; until that
-- one is dispatched a more urgent one takes its place. The others stand in `queued`.
local function queue_key(p, todo) return string.format('%s|%08d|%s', p.repo, p.order, todo) end

local function keep_for(p, todo)
  call('HSET', busy, p.repo, todo)
  call('ZADD', ready, p.order, todo)
end

local function line_up(todo, p)
  move(todo, 'ready')
  local first = call('HGET', busy, p.repo)
  local first_order = first and call('ZSCORE', ready, first)
  if not first then
    keep_for(p, todo)
  elseif first_order and p.order < tonumber(first_order) then
    call('ZREM', ready, first)
    call('ZADD', queued, 0, queue_key(place_of(first), first))
    keep_for(p, todo)
  else
    call('ZADD', queued, 0, queue_key(p, todo))
  end
end

-- A person is waited for: nothing is held meanwhile. What happens when nobody comes is in the fact `gate`: `timeout in ms, verdict`.
local function wait_for_person(todo, words, gate)
  local timeout_ms = tonumber(gate and string.match(gate, '^%d+') or '0')
  if timeout_ms > 0 then call('ZADD', timers, now + timeout_ms, member(todo)) end
  note(todo, 'waits_for', words)
  move(todo, 'parked')
end

local function enqueue(todo)
  local p = place_of(todo)
  local gate, approved, undoing = unpack(call('HMGET', facts, todo .. ' gate', todo .. ' approved_by', todo .. ' undo'))
  if undoing then return line_up(todo, p) end
  if p.kind == 'manual' and p.repo ~= NOWHERE then
    return wait_for_person(todo, 'a person: coord complete-todo ' .. todo, gate)
  end
  if gate and not approved then return wait_for_person(todo, 'an approval: coord approve ' .. todo, gate) end
  line_up(todo, p)
end

-- Whether a parked todo waits for a person, and nothing else.
local function waits_for_person(todo)
  if state_of(todo) ~= 'parked' then return false end
  local gate, approved, undoing = unpack(call('HMGET', facts, todo .. ' gate', todo .. ' approved_by', todo .. ' undo'))
  return not undoing and (place_of(todo).kind == 'manual' or (gate and not approved))
end

local function free_repo(p, todo)
  if call('HGET', busy, p.repo) ~= todo then return end
  local following = call('ZRANGEBYLEX', queued, '[' .. p.repo .. '|', '(' .. p.repo .. '}', 'LIMIT', 0, 1)[1]
  if not following then return call('HDEL', busy, p.repo) end
  call('ZREM', queued, following)
  local order, next_todo = string.match(following, '^[^|]*|(%d+)|(.*)$')
  keep_for({ repo = p.repo, order = tonumber(order) }, next_todo)
end

-- Dispatch what may start. Under `levels` a todo's first message is already under way with its chord; only what was
-- delivered before its turn is owed another.
local function pump()
  local status, max_parallel, active, strategy = unpack(call('HMGET', meta, 'status', 'max_parallel', 'active', 'strategy'))
  if not goes_on(status) then return end
  local room = tonumber(max_parallel) - tonumber(active)
  while room > 0 or max_parallel == '0' do
    local todo = call('ZPOPMIN', ready)[1]
    if not todo then return end
    erase(todo, 'waits_for')
    move(todo, 'dispatched')
    call('HINCRBY', meta, 'active', 1)
    call('ZADD', sent, now, todo)
    if call('SREM', owed, todo) == 1 or strategy == 'dataflow' or status == 'rolling_back' then sends[#sends + 1] = delivery(todo) end
    room = room - 1
  end
end

-- Opens the next level that has something to do; what workers do of it is returned for one chord (or chain).
local function open_next_level()
  local last = tonumber(call('HGET', meta, 'levels')) - 1
  local level = tonumber(call('HGET', meta, 'level'))
  while level < last do
    level = level + 1
    local todos = {}
    for todo in string.gmatch(call('HGET', levels, level), '%S+') do
      if state_of(todo) == 'waiting' then todos[#todos + 1] = todo end
    end
    if #todos > 0 then
      local messages = {}
      for _, todo in ipairs(todos) do
        if place_of(todo).kind ~= 'manual' then
          note(todo, 'index', #messages)
          messages[#messages + 1] = todo
        end
      end
      call('HSET', meta, 'level', level, 'size.' .. level, #messages)
      call('HSET', opened, level, #todos)
      call('HDEL', meta, 'level_settled_at')
      emit('level.opened', '', 'level', level)
      for _, todo in ipairs(todos) do enqueue(todo) end
      pump()
      local header = {}
      for i, todo in ipairs(messages) do header[i] = delivery(todo) end
      return header
    end
  end
  call('HSET', meta, 'level', last)
  return {}
end

local function finish(status)
  call('HSET', meta, 'status', status, 'finished_at', now)
  call('ZREM', live, run)
  count('runs_' .. status)
  emit('run.ended', '', 'status', status, 'at', now) -- a rollback may open it again: `at` tells its ends apart
end

local function finish_if_done()
  local status, left, cancelled, failed, intents =
    unpack(call('HMGET', meta, 'status', 'open', 'cancelled', 'n.failed', 'intents'))
  if tonumber(left) > 0 then return end
  if status == 'rolling_back' then
    finish(intents == '0' and 'rolled_back' or 'rollback_failed')
  elseif status == 'running' or status == 'paused' then
    finish(cancelled and 'cancelled' or (tonumber(failed or 0) > 0 and 'failed') or 'succeeded')
  end
end

-- Whatever a worker that came for the todo holds of it: lease, timer, its share of max_parallel.
local function step_down(todo, p)
  local was = state_of(todo)
  if was == 'running' or was == 'dispatched' then call('HINCRBY', meta, 'active', -1) end
  call('ZREM', leases, member(todo))
  call('HDEL', holders, member(todo))
  call('SREM', stops, member(todo))
  call('ZREM', timers, member(todo))
  call('ZREM', sent, todo)
  if call('HGET', stranded, p.repo) == todo then call('HDEL', stranded, p.repo) end
  return was
end

-- Whatever a todo holds outside its state.
local function let_go(todo, p)
  if step_down(todo, p) == 'running' then
    let_loose({ id = member(todo), kind = 'todo', wants = wants_of(p.wants) })
  else
    give_back(member(todo))
  end
end

local function end_todo(todo, outcome, why, p)
  p = p or place_of(todo)
  let_go(todo, p)
  call('ZREM', ready, todo)
  call('ZREM', queued, queue_key(p, todo))
  erase(todo, 'waits_for')
  if why ~= '' then note_of_attempt(todo, 'error', why) end
  note_of_attempt(todo, 'finished_at', now)
  move(todo, outcome)
  call('HINCRBY', meta, 'open', -1)
  if call('HEXISTS', opened, p.level) == 1 and call('HINCRBY', opened, p.level, -1) == 0 then
    call('HSET', meta, 'level_settled_at', now)
  end
end

-- Nothing new starts: whatever does not run ends here; what runs finishes.
local function end_all_but_running(outcome, why)
  local all = call('HGETALL', state)
  for i = 1, #all, 2 do
    local todo, at = all[i], all[i + 1]
    if at == 'retrying' and outcome == 'skipped' then
      end_todo(todo, 'failed', (fact(todo, 'error') or '') .. ' (not tried again: ' .. why .. ')')
    elseif at ~= 'running' and not ENDED[at] then
      end_todo(todo, outcome, why)
    end
  end
end

-- What runs is asked to stop: its workers see it at their next heartbeat. Returns them.
local function stop_running()
  local all, workers = call('HGETALL', state), {}
  for i = 1, #all, 2 do
    if all[i + 1] == 'running' then
      call('SADD', stops, member(all[i]))
      workers[fact(all[i], 'worker')] = true
    end
  end
  return workers
end

-- That heartbeat comes now, where somebody listens.
local function have_beat(workers)
  for worker in pairs(workers) do call('PUBLISH', head .. KEY.mail .. 'worker:' .. worker, 'beat') end
end
