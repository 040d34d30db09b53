-- Rollback (a saga: Garcia-Molina and Salem, 1987). Each todo with an intent, a fact that a claim writes
-- before the work begins, is sent to a worker again to be compensated: with the fact `undo`, after all its
-- dependents with an intent were undone. `behind` counts the dependents left for each todo, as `pending`
-- counts its predecessors; `intents` counts the todos left to undo.

local pass

local function undo_todo(todo)
  local p = place_of(todo)
  local was, fence = state_of(todo), fact(todo, 'fence')
  if was ~= 'compensation_failed' then -- the claim of a compensation takes a new fence
    note(todo, 'was', was)
    if fence then note(todo, 'was_fence', fence) end
  end
  note(todo, 'undo', 1)
  call('HDEL', checkpoint, todo .. ' undo')
  for _, old in ipairs({
    'tries', 'lost', 'held_up', 'rank', 'waits_for', 'wait_reason', 'question',
    'undo_started_at', 'undo_finished_at', 'undo_error', 'undo_exit_code',
  }) do
    erase(todo, old)
  end
  increment(todo, 'attempt')
  call('HINCRBY', meta, 'open', 1)
  local undone_by = p.kind ~= 'manual' or cjson.decode(call('HGET', spec, todo)).todo.compensate
  if not undone_by or undone_by == cjson.null then -- a person did it: there is nothing for a worker to undo
    end_todo(todo, 'compensated', '', p)
    return pass(todo, p)
  end
  queue_up(todo, p)
end

-- Nothing of the todo is left to undo: its predecessors may follow; those without an intent are passed at
-- once.
function pass(todo, p)
  -- the whole run may be undone later
  if call('HEXISTS', meta, 'restoring') == 1 then erase(todo, 'intent') end
  call('HINCRBY', meta, 'intents', -1)
  call('HINCRBY', meta, 'intents.' .. p.repo, -1)
  local heap = { todo }
  while #heap > 0 do
    for parent in string.gmatch(call('HGET', parents, table.remove(heap)) or '', '%S+') do
      if call('HINCRBY', behind, parent, -1) == 0 then
        if fact(parent, 'intent') then undo_todo(parent) else heap[#heap + 1] = parent end
      end
    end
  end
end

-- Count the dependents and intents of the whole run. The survey stays in memory as far as possible and is
-- written in batches: for 50,000 todos a command for each todo and edge would take Redis a second. Returns
-- the todos to undo first.
local function survey()
  local BATCH = 500

  -- `rows`: {field, value, field, value, …}
  local function write_all(hash, rows)
    for i = 1, #rows, 2 * BATCH do call('HSET', hash, unpack(rows, i, math.min(i + 2 * BATCH - 1, #rows))) end
  end

  -- Return the predecessors of each todo, and its number of dependents.
  local function edges_of(todos)
    local before, left_behind = {}, {}
    for _, todo in ipairs(todos) do before[todo], left_behind[todo] = {}, 0 end
    local all = call('HGETALL', children)
    for i = 1, #all, 2 do
      for child in string.gmatch(all[i + 1], '%S+') do
        left_behind[all[i]] = left_behind[all[i]] + 1
        table.insert(before[child], all[i])
      end
    end
    return before, left_behind
  end

  -- Count the intents of the run and of each repository.
  local function count_intents(todos)
    local intents, of_repo = 0, {}
    for i = 1, #todos, BATCH do
      local fields = {}
      for j = i, math.min(i + BATCH - 1, #todos) do fields[#fields + 1] = todos[j] .. ' intent' end
      look_up(fields)
    end
    for _, todo in ipairs(todos) do
      if fact(todo, 'intent') then
        local repo = place_of(todo).repo
        intents, of_repo[repo] = intents + 1, (of_repo[repo] or 0) + 1
      end
    end
    for repo, n in pairs(of_repo) do call('HSET', meta, 'intents.' .. repo, n) end
    call('HSET', meta, 'intents', intents, 'open', 0)
  end

  -- Pass the todos without an intent. Return those with an intent and no dependents left, and the passed
  -- ones.
  local function first_to_undo(todos, before, left_behind)
    local heap, found, passed = {}, {}, {}
    for _, todo in ipairs(todos) do
      if left_behind[todo] == 0 then heap[#heap + 1] = todo end
    end
    while #heap > 0 do
      local todo = table.remove(heap)
      if fact(todo, 'intent') then
        found[#found + 1] = todo
      else
        passed[todo] = true
        for _, parent in ipairs(before[todo]) do
          left_behind[parent] = left_behind[parent] - 1
          if left_behind[parent] == 0 then heap[#heap + 1] = parent end
        end
      end
    end
    return found, passed
  end

  local todos = call('HKEYS', state)
  count_intents(todos)
  local before, left_behind = edges_of(todos)
  local last, passed = first_to_undo(todos, before, left_behind)
  local counts, names = {}, {}
  for _, todo in ipairs(todos) do
    if not passed[todo] then
      counts[#counts + 1], counts[#counts + 2] = todo, left_behind[todo]
      if #before[todo] > 0 then
        names[#names + 1], names[#names + 2] = todo, table.concat(before[todo], ' ')
      end
    end
  end
  write_all(behind, counts)
  write_all(parents, names)
  return last
end

-- Begin to undo as soon as no todo of the run runs.
local function begin_undoing()
  for _, todo in ipairs(survey()) do undo_todo(todo) end
  dispatch_ready()
  finish_if_done()
end

local function begin_undoing_when_quiet()
  write_down()
  local running, begun, ending = unpack(call('HMGET', meta, 'n.running', 'intents', 'ending'))
  if tonumber(running or 0) == 0 and not begun and not ending then begin_undoing() end
end

local function turn_back(why, by)
  local ended = call('HGET', meta, 'finished_at')
  if ended then call('HINCRBY', meta, 'lay_still_ms', now - ended) end
  call('HSET', meta, 'status', 'rolling_back')
  call('HSETNX', meta, 'rollback', why)
  call('HDEL', meta, 'paused', 'finished_at')
  if by ~= '' then call('HSET', meta, 'rolled_back_by', by) end
  call('ZREM', head .. KEY.half_undone, run)
  call('ZADD', live, 'NX', now, run)
  change_set.take_again()
  emit_of_run('run.rolling_back', by, 'why', first_line(why))
end

-- `dismiss`: the outcome of todos that have not begun.
local function roll_back(why, by, dismiss)
  turn_back(why, by)
  end_all_but_running(dismiss, why)
  request_heartbeats(stop_running())
  begin_undoing_when_quiet()
end

local function settle_undo(todo, outcome, why, p)
  end_todo(todo, outcome == 'succeeded' and 'compensated' or 'compensation_failed', why, p)
  release_repo(p, todo)
  if outcome == 'succeeded' then
    change_set.undone(todo)
    pass(todo, p)
  end
  dispatch_ready()
  finish_if_done()
end

-- Try failed compensations again.
local function undo_again(why, by)
  turn_back(why, by)
  local all = call('HGETALL', state)
  for i = 1, #all, 2 do
    if all[i + 1] == 'compensation_failed' then undo_todo(all[i]) end
  end
  dispatch_ready()
  finish_if_done()
end
