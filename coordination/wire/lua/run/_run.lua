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
local ENDED = { succeeded = true, failed = true, skipped = true, cancelled = true }

local sends = {} -- what the caller has to send to the workers: {todo, attempt, repo, host, level, index, size}

local function fact(todo, name) return call('HGET', facts, todo .. ' ' .. name) end
local function note(todo, name, value) call('HSET', facts, todo .. ' ' .. name, value) end
local function erase(todo, name) call('HDEL', facts, todo .. ' ' .. name) end
local function state_of(todo) return call('HGET', state, todo) end
local function member(todo) return run .. ' ' .. todo end
local function count(what) call('HINCRBY', counters, what, 1) end

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
  emit('todo.' .. to, todo, 'attempt', fact(todo, 'attempt'))
end

local function delivery(todo)
  local p = place_of(todo)
  local host, size = unpack(call('HMGET', meta, 'host.' .. p.repo, 'size.' .. p.level))
  local attempt, index = unpack(call('HMGET', facts, todo .. ' attempt', todo .. ' index'))
  return { todo, attempt, p.repo, host or '', p.level, index or '0', size or '0' }
end

-- A run does the todos of one repository one at a time. `busy` names the one that the repository is kept for; until that
-- one is dispatched a more urgent one takes its place. The others stand in `queued`.
local function queue_key(p, todo) return string.format('%s|%08d|%s', p.repo, p.order, todo) end

local function keep_for(p, todo)
  call('HSET', busy, p.repo, todo)
  call('ZADD', ready, p.order, todo)
end

local function enqueue(todo)
  local p = place_of(todo)
  if p.kind == 'manual' then
    note(todo, 'waits_for', 'a person: coord complete-todo ' .. todo)
    return move(todo, 'parked')
  end
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
  if status ~= 'running' then return end
  local room = tonumber(max_parallel) - tonumber(active)
  while room > 0 or max_parallel == '0' do
    local todo = call('ZPOPMIN', ready)[1]
    if not todo then return end
    erase(todo, 'waits_for')
    move(todo, 'dispatched')
    call('HINCRBY', meta, 'active', 1)
    call('ZADD', sent, now, todo)
    if call('SREM', owed, todo) == 1 or strategy == 'dataflow' then sends[#sends + 1] = delivery(todo) end
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

local function finish_if_done()
  local status, left, cancelled, failed = unpack(call('HMGET', meta, 'status', 'open', 'cancelled', 'n.failed'))
  if tonumber(left) > 0 or (status ~= 'running' and status ~= 'paused') then return end
  status = cancelled and 'cancelled' or (tonumber(failed or 0) > 0 and 'failed') or 'succeeded'
  call('HSET', meta, 'status', status, 'finished_at', now)
  call('ZREM', live, run)
  count('runs_' .. status)
  emit('run.ended', '', 'status', status)
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
  if why ~= '' then note(todo, 'error', why) end
  note(todo, 'finished_at', now)
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

local function skip_dependents(todo, why)
  local heap = { todo }
  while #heap > 0 do
    local children_of = call('HGET', children, table.remove(heap)) or ''
    for child in string.gmatch(children_of, '%S+') do
      if not ENDED[state_of(child)] then
        end_todo(child, 'skipped', why)
        heap[#heap + 1] = child
      end
    end
  end
end

local function release_dependents(todo)
  local by_level = call('HGET', meta, 'strategy') == 'levels'
  for child in string.gmatch(call('HGET', children, todo) or '', '%S+') do
    -- Under `levels` the level's chord opens the next one; a child is never ahead of it.
    if call('HINCRBY', pending, child, -1) == 0 and state_of(child) == 'waiting' and not by_level then enqueue(child) end
  end
end

-- The one way in which a todo that had its turn ends, and what follows from it.
local function settle(todo, outcome, why)
  local p = place_of(todo)
  end_todo(todo, outcome, why, p)
  free_repo(p, todo)
  if outcome == 'succeeded' then
    release_dependents(todo)
  elseif outcome == 'failed' then
    if call('HGET', meta, 'on_failure') == 'halt' then
      call('HSETNX', meta, 'halted', todo)
      end_all_but_running('skipped', 'halted: ' .. todo .. ' failed')
    else
      skip_dependents(todo, 'needs ' .. todo .. ', which failed')
    end
  else
    skip_dependents(todo, 'needs ' .. todo .. ', which was ' .. outcome)
  end
  pump()
  finish_if_done()
end

local function no_new_start() return call('HGET', meta, 'halted') or call('HGET', meta, 'cancelled') end

-- How a todo ends that was under way when that was decided, and why.
local function ending()
  local by = call('HGET', meta, 'cancelled')
  if by then return 'cancelled', 'cancelled by ' .. by end
  return 'failed', 'halted: ' .. call('HGET', meta, 'halted') .. ' failed'
end

-- The todo is tried again: at once (delay 0) or when its timer is due. `counted` is `tries` (its own failure),
-- `lost` (its worker is gone) or `handed_back` (its worker was told to stop: counts towards nothing).
local function again(todo, counted, delay_ms, why)
  local p = place_of(todo)
  let_go(todo, p)
  call('HINCRBY', facts, todo .. ' ' .. counted, 1)
  call('HINCRBY', facts, todo .. ' attempt', 1)
  if why ~= '' then note(todo, 'error', why) end
  call('SADD', owed, todo)
  free_repo(p, todo)
  if tonumber(delay_ms) > 0 then
    call('ZADD', timers, now + delay_ms, member(todo))
    note(todo, 'waits_for', 'another try')
    move(todo, 'retrying')
  else
    enqueue(todo)
  end
  pump()
end

-- Held up, without a worker's slot.
local function set_aside(todo, why, delay_ms)
  note(todo, 'waits_for', why)
  move(todo, 'parked')
  call('SADD', owed, todo)
  call('ZADD', timers, now + delay_ms, member(todo))
end

-- The repository stays kept for it, and its timer asks again.
local function park(todo, why, delay_ms)
  let_go(todo, place_of(todo))
  set_aside(todo, why, delay_ms)
  pump()
end

-- Until it is handed what it needs. Others of its repository go on, unless they would wait for the same seat.
local function await(todo, p, request, names)
  set_aside(todo, obstacles(request, names), math.min(RECHECK_MS, next_expiry(names) or RECHECK_MS))
  if not has_seat(names) then free_repo(p, todo) end
end

-- To each worker that runs a todo of this run, at once; what it is to do stands elsewhere. Who has no inbox, for its user may
-- read none, hears that there is something. `event`: the entry of the run's events.
-- For steps that use the room of messages.
local function tell_workers(kind, by, event)
  local sequence = string.gsub(event, '-', '.')
  local body = cjson.encode({ run = run, by = by })
  local letter = message.letter('run:' .. run, sequence, kind, body, TOLD_MS, TOLD_AT_MOST, TOLD_MS)
  local all, told = call('HGETALL', state), {}
  for i = 1, #all, 2 do
    local worker = all[i + 1] == 'running' and fact(all[i], 'worker')
    if worker and not told[worker] then
      told[worker] = true
      local to = 'worker:' .. worker
      if message.send(head, to, letter) < 0 then call('PUBLISH', head .. KEY.mail .. to, '') end
    end
  end
end

local function held_by(todo, fence) return call('HGET', holders, member(todo)) == fence end
local function reply(word, ...) return { word, sends, woken, call('HGET', meta, 'status') or '', ... } end
