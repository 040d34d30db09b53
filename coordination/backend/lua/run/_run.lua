-- Shared state and functions of the steps of a run. A step is atomic, and is one transition of the state
-- machine in runs/__init__.py.
-- KEYS of every step: the keys of the run, then those of all runs, in the order of `Keys.step` in
--   backend/keys.py; `begin_run` assigns them to the names below.
-- ARGV of every step: the run id, then the step's own arguments.

-- State of one call, assigned only by `begin_run`.
-- keys of the run, in the order of RunKeys.own
local meta, spec, descriptor, children, levels, state, facts, pending, opened, ready, queued, occupant,
  unsent, stranded, sent, tips, output, checkpoint, parents, behind, posted, events, results
local runs, live, leases, holders, stops, timers, counters -- keys of all runs, in the order of Keys.step
local OWN, SHARED = 24, 8
local run -- the run id
local sends -- messages that the caller sends to workers: {todo, attempt, repo, host, level, index, size}
local memo -- fields of todos read so far (facts, states, descriptors), and changes of facts to be written
local budget -- number of todos that this call may still end or queue

-- todos that a step ends or queues, and todos that it reads to find them: 10 to 25 ms
local PIECE, SCAN_LIMIT = 300, 10000

local function begin_run(keys, args)
  meta, spec, descriptor, children, levels, state, facts, pending, opened, ready, queued, occupant, unsent,
    stranded, sent, tips, output, checkpoint, parents, behind, posted, events, results = unpack(keys, 1, OWN)
  runs, live, leases, holders, stops, timers, counters, head = unpack(keys, OWN + 1, OWN + SHARED)
  run, sends = args[1], {}
  memo = { known = {}, changed = {}, changes = 0, tally = {}, places = {}, states = {} }
  budget = { left = PIECE }
end

-- a release notifies the waiters; this interval covers holders that expired and releasers that died
local RECHECK_MS = 5000
local EVENTS_KEPT = 100000
local TOLD_MS, TOLD_AT_MOST = 60000, 1000 -- a worker that reads no notification learns it from its heartbeat
local MILESTONE_REPO = '-' -- the repository of a milestone: a person approves it, and nothing is executed
local ENDED = {
  succeeded = true, failed = true, skipped = true, cancelled = true,
  compensated = true, compensation_failed = true,
}

-- Facts and state counts are read once and written together at the end (write_down), because half of a step's
-- time goes into commands.
local AT_ONCE = 1000

local function write_down()
  local set, gone = {}, {}
  for field in pairs(memo.changed) do
    local value = memo.known[field]
    if value then set[#set + 1], set[#set + 2] = field, value else gone[#gone + 1] = field end
  end
  if #set > 0 then call('HSET', facts, unpack(set)) end
  if #gone > 0 then call('HDEL', facts, unpack(gone)) end
  for at, n in pairs(memo.tally) do
    if n ~= 0 then call('HINCRBY', meta, 'n.' .. at, n) end
  end
  memo.changed, memo.changes, memo.tally = {}, 0, {}
end

local function change(field, value)
  memo.known[field], memo.changed[field], memo.changes = value, true, memo.changes + 1
  if memo.changes > AT_ONCE then write_down() end
end

local function look_up(fields)
  local known, unknown = memo.known, {}
  for _, field in ipairs(fields) do
    if known[field] == nil then unknown[#unknown + 1] = field end
  end
  if #unknown == 0 then return end
  for i, value in ipairs(call('HMGET', facts, unpack(unknown))) do known[unknown[i]] = value end
end

local function fact(todo, name)
  local known, field = memo.known, todo .. ' ' .. name
  if known[field] == nil then known[field] = call('HGET', facts, field) end
  return known[field]
end

-- Return several facts in the order of their names; false for a missing one.
local function facts_of(todo, ...)
  local fields, values = {}, {}
  for i, name in ipairs({ ... }) do fields[i] = todo .. ' ' .. name end
  look_up(fields)
  for i, field in ipairs(fields) do values[i] = memo.known[field] end
  return unpack(values)
end

local function note(todo, name, value)
  change(todo .. ' ' .. name, type(value) == 'number' and string.format('%.17g', value) or value)
end

local function erase(todo, name)
  if memo.known[todo .. ' ' .. name] ~= false then change(todo .. ' ' .. name, false) end
end

-- Set the reason why a todo does not run: a member of WaitReason in runs/records.py, and a text.
local function wait_for(todo, reason, words)
  note(todo, 'wait_reason', reason)
  note(todo, 'waits_for', words)
end

local function count(what, by) call('HINCRBY', counters, what, by or 1) end

-- Count a time for the metrics (operations/metrics.py), by its upper bound.
local function count_time(what, took_ms)
  local bound = 'inf'
  for _, limit in ipairs({ 100, 1000, 10000, 60000, 600000, 3600000 }) do
    if took_ms <= limit then
      bound = limit
      break
    end
  end
  count('time.' .. what .. '.' .. bound)
  count('time.' .. what .. '.sum', string.format('%.0f', took_ms))
end

local function clear_wait(todo)
  local reason, since = fact(todo, 'wait_reason'), tonumber(fact(todo, 'since') or '')
  if reason and since and now >= since and call('HGET', state, todo) == 'parked' then
    count_time('wait:' .. reason, now - since)
  end
  erase(todo, 'wait_reason')
  erase(todo, 'waits_for')
end

local function increment(todo, name) note(todo, name, (tonumber(fact(todo, name)) or 0) + 1) end
-- Set a fact of an attempt. Facts of a compensation have names of their own, because people see both.
local function note_of_attempt(todo, name, value)
  note(todo, (fact(todo, 'undo') and 'undo_' or '') .. name, value)
end

local function state_of(todo)
  local states = memo.states
  if states[todo] == nil then states[todo] = call('HGET', state, todo) end
  return states[todo]
end

local function member(todo) return run .. ' ' .. todo end
local function goes_on(status) return status == 'running' or status == 'rolling_back' end

local function emit(what, todo, ...)
  return call('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'what', what, 'todo', todo, ...)
end

-- Write an event of the run, or of one of its levels, into both streams. `by`: who did it, or nil.
local function emit_of_run(kind, by, ...)
  local entry = by and emit(kind, '', 'by', by, ...) or emit(kind, '', ...)
  announce(kind, run, 'run', run, 'actor', by or '', 'entry', entry,
    'plan', call('HGET', meta, 'plan_id') or '', ...)
  return entry
end

local function place_of(todo) -- a descriptor never changes
  local places = memo.places
  if places[todo] then return places[todo] end
  local order, level, repo, kind, priority, wants =
    string.match(call('HGET', descriptor, todo), '^(%S+) (%S+) (%S+) (%S+) (%S+) ?(.*)$')
  places[todo] = {
    order = tonumber(order), level = level, repo = repo, kind = kind, priority = priority, wants = wants,
    -- todos of one lane are executed one at a time: services write nothing, so each has its own
    lane = kind == 'service' and ':' .. todo or repo,
  }
  return places[todo]
end

local announce_todo, tell_move

do
  -- Return the repositories of a todo's events.
  local function repos_of(todo)
    local repo = place_of(todo).repo
    return repo == MILESTONE_REPO and '' or repo
  end

  -- Write an event of a todo for readers outside the run. `entry`: the same event in the run's own stream.
  -- `...`: names and values of its further fields.
  function announce_todo(kind, todo, entry, ...)
    announce(kind, todo, 'run', run, 'repos', repos_of(todo), 'entry', entry, ...)
  end

  local function common_fields(todo, attempt, undoing)
    local fields = { 'attempt', attempt, 'repos', repos_of(todo) }
    if undoing then fields[5], fields[6] = 'undo', undoing end
    return fields
  end

  -- Return the fields of the end of a todo. Error, exit code, reused result and decision are those that this
  -- step has noted: a look for older ones would take longer than the event.
  local function fields_of_end(todo, from, attempt, undoing)
    local fields, prefix = common_fields(todo, attempt, undoing), undoing and 'undo_' or ''
    local function noted(name) return memo.known[todo .. ' ' .. name] end
    local function add(name, value)
      if value then fields[#fields + 1], fields[#fields + 2] = name, value end
    end
    local why = noted(prefix .. 'error')
    add('title', why and why ~= '' and first_line(why))
    if from ~= 'running' then
      add('actor', noted('approved_by'))
      return fields
    end
    local worker, started_at, tried_ms = facts_of(todo, 'worker', prefix .. 'started_at', 'tried_ms')
    add('actor', worker)
    add('duration_ms', started_at and math.max(0, now - tonumber(started_at)))
    add('tried_ms', not undoing and tried_ms)
    add('exit_code', noted(prefix .. 'exit_code'))
    add('cached', noted('cached'))
    return fields
  end

  local function tell_end(todo, from, to, attempt, undoing)
    local fields = fields_of_end(todo, from, attempt, undoing)
    local entry = emit('todo.' .. to, todo, unpack(fields))
    announce('todo.settled', todo, 'run', run, 'entry', entry, 'state', to, 'group', place_of(todo).kind,
      unpack(fields))
    if to == 'succeeded' and place_of(todo).repo == MILESTONE_REPO then
      local plan = call('HGET', meta, 'plan_id') or ''
      local who = memo.known[todo .. ' approved_by'] or ''
      announce('milestone.reached', plan .. '/' .. todo, 'run', run, 'actor', who)
    end
  end

  -- Waits for the todo's own slot or resources write no event: they change at each claim. Another reason
  -- writes one event until the todo runs, however often the todo is parked and fired again.
  local function tell_parked(todo, attempt, undoing)
    local why, reason = fact(todo, 'waits_for') or '', fact(todo, 'wait_reason') or ''
    local fields = common_fields(todo, attempt, undoing)
    fields[#fields + 1], fields[#fields + 2] = 'reason', reason
    local entry = emit('todo.parked', todo, 'waits_for', why, unpack(fields))
    if reason == 'repository' or reason == 'resource' or fact(todo, 'parked_for') == reason then return end
    note(todo, 'parked_for', reason)
    announce('todo.parked', todo, 'run', run, 'entry', entry, 'title', first_line(why), unpack(fields))
  end

  -- Write the events of a change of state: all of them for those who follow the run, and for readers outside
  -- it what they need.
  function tell_move(todo, from, to)
    local attempt, undoing = facts_of(todo, 'attempt', 'undo')
    if ENDED[to] then return tell_end(todo, from, to, attempt, undoing) end
    if to == 'parked' then return tell_parked(todo, attempt, undoing) end
    local fields = common_fields(todo, attempt, undoing)
    if to == 'running' then
      erase(todo, 'parked_for')
      fields[#fields + 1], fields[#fields + 2] = 'actor', fact(todo, 'worker')
    elseif to == 'retrying' then
      fields[#fields + 1] = 'title'
      fields[#fields + 1] = first_line(fact(todo, undoing and 'undo_error' or 'error') or '')
    end
    local entry = emit('todo.' .. to, todo, unpack(fields))
    if to == 'running' then
      local kind = undoing and 'todo.compensating' or 'todo.started'
      announce(kind, todo, 'run', run, 'entry', entry, unpack(fields))
    elseif to == 'retrying' then
      announce('todo.retrying', todo, 'run', run, 'entry', entry, unpack(fields))
    end
  end
end

local function move(todo, to)
  local from = state_of(todo)
  if from == to then return end
  call('HSET', state, todo, to)
  memo.states[todo] = to
  local tally = memo.tally
  tally[from], tally[to] = (tally[from] or 0) - 1, (tally[to] or 0) + 1
  note(todo, 'since', now)
  if ENDED[to] then count('todos_' .. to) end
  tell_move(todo, from, to)
end
