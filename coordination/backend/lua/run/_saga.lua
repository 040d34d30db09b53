-- Rollback (a saga: Garcia-Molina and Salem, 1987). Whatever has an intent, the fact that a claim leaves before anything is begun,
-- is sent to a worker once more, to be undone: as a todo, with the fact `undo`, after all that stands behind it was undone.
-- `behind` counts down what is left behind each todo, as `pending` counts what is left before it; `intents` what is left to undo.

local pass

local function undo_todo(todo)
  local p = place_of(todo)
  local was, fence = state_of(todo), fact(todo, 'fence')
  if was ~= 'compensation_failed' then -- the claim of a compensation takes a fence of its own
    note(todo, 'was', was)
    if fence then note(todo, 'was_fence', fence) end
  end
  note(todo, 'undo', 1)
  for _, old in ipairs({ 'tries', 'lost', 'held_up', 'rank', 'waits_for', 'wait_reason', 'undo_started_at', 'undo_finished_at', 'undo_error', 'undo_exit_code' }) do
    erase(todo, old)
  end
  increment(todo, 'attempt')
  call('HINCRBY', meta, 'open', 1)
  local undone_by = p.kind ~= 'manual' or cjson.decode(call('HGET', spec, todo)).todo.compensate
  if not undone_by or undone_by == cjson.null then -- a person did it: nothing of ours is to be undone, and no worker is asked
    end_todo(todo, 'compensated', '', p)
    return pass(todo, p)
  end
  line_up(todo, p)
end

-- Nothing of the todo is left to undo: those before it may follow, and those without an intent are passed over at once.
function pass(todo, p)
  if call('HEXISTS', meta, 'restoring') == 1 then erase(todo, 'intent') end -- the run may be undone whole later on
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

-- The survey of a whole run stays in this step's memory as far as it can, and is written in batches: of 50,000 todos a call for each,
-- and each edge, takes Redis a second. Returns those that are undone first.
local function survey()
  local BATCH = 500

  -- {field, value, field, value, …}
  local function write_all(hash, rows)
    for i = 1, #rows, 2 * BATCH do call('HSET', hash, unpack(rows, i, math.min(i + 2 * BATCH - 1, #rows))) end
  end

  -- Which todos stand before each, and how many behind it.
  local function both_ways(todos)
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

  -- In all, and in each repository.
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

  -- Those with an intent and nothing left behind them, once those without one are passed over; and which these are.
  local function last_begun(todos, before, left_behind)
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
  local before, left_behind = both_ways(todos)
  local last, passed = last_begun(todos, before, left_behind)
  local counts, names = {}, {}
  for _, todo in ipairs(todos) do
    if not passed[todo] then
      counts[#counts + 1], counts[#counts + 2] = todo, left_behind[todo]
      if #before[todo] > 0 then names[#names + 1], names[#names + 2] = todo, table.concat(before[todo], ' ') end
    end
  end
  write_all(behind, counts)
  write_all(parents, names)
  return last
end

-- Once nothing of the run runs any more.
local function begin_undoing()
  for _, todo in ipairs(survey()) do undo_todo(todo) end
  pump()
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
  emit('run.rolling_back', '', 'why', why, 'by', by)
end

-- `dismiss`: how todos end that have not begun.
local function roll_back(why, by, dismiss)
  turn_back(why, by)
  end_all_but_running(dismiss, why)
  have_beat(stop_running())
  begin_undoing_when_quiet()
end

local function settle_undo(todo, outcome, why, p)
  end_todo(todo, outcome == 'succeeded' and 'compensated' or 'compensation_failed', why, p)
  free_repo(p, todo)
  if outcome == 'succeeded' then pass(todo, p) end
  pump()
  finish_if_done()
end

-- Those that could not be undone are tried again.
local function undo_again(why, by)
  turn_back(why, by)
  local all = call('HGETALL', state)
  for i = 1, #all, 2 do
    if all[i + 1] == 'compensation_failed' then undo_todo(all[i]) end
  end
  pump()
  finish_if_done()
end
