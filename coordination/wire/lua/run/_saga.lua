-- Rollback (a saga: Garcia-Molina and Salem, 1987). Whatever has an intent, the fact that a claim leaves before anything is begun,
-- is sent to a worker once more, to be undone: as a todo, with the fact `undo`, after all that stands behind it was undone.
-- `behind` counts down what is left behind each todo, as `pending` counts what is left before it; `intents` what is left to undo.

local function undo_todo(todo)
  local p = place_of(todo)
  if state_of(todo) ~= 'compensation_failed' then note(todo, 'was', state_of(todo)) end
  note(todo, 'undo', 1)
  for _, old in ipairs({ 'tries', 'lost', 'rank', 'waits_for', 'undo_started_at', 'undo_finished_at', 'undo_error', 'undo_exit_code' }) do
    erase(todo, old)
  end
  increment(todo, 'attempt')
  call('HINCRBY', meta, 'open', 1)
  line_up(todo, p)
end

-- Nothing of the todo is left to undo: those before it may follow, and those without an intent are passed over at once.
local function pass(todo)
  local heap = { todo }
  while #heap > 0 do
    for parent in string.gmatch(call('HGET', parents, table.remove(heap)) or '', '%S+') do
      if call('HINCRBY', behind, parent, -1) == 0 then
        if fact(parent, 'intent') then undo_todo(parent) else heap[#heap + 1] = parent end
      end
    end
  end
end

-- Which todos stand before each, and how many behind it; and in each repository, how many intents there are.
local function survey()
  local before, intents = {}, 0
  local all = call('HGETALL', state)
  for i = 1, #all, 2 do
    local todo, behind_it = all[i], 0
    for child in string.gmatch(call('HGET', children, todo) or '', '%S+') do
      behind_it = behind_it + 1
      before[child] = (before[child] or '') .. ' ' .. todo
    end
    call('HSET', behind, todo, behind_it)
    if fact(todo, 'intent') then
      intents = intents + 1
      call('HINCRBY', meta, 'intents.' .. place_of(todo).repo, 1)
    end
  end
  for todo, names in pairs(before) do call('HSET', parents, todo, names) end
  call('HSET', meta, 'intents', intents, 'open', 0)
  return all
end

-- Once nothing of the run runs any more.
local function begin_undoing()
  call('DEL', ready, queued, busy, owed, stranded)
  local all, last = survey(), {}
  for i = 1, #all, 2 do
    if call('HGET', behind, all[i]) == '0' then last[#last + 1] = all[i] end
  end
  for _, todo in ipairs(last) do
    if fact(todo, 'intent') then undo_todo(todo) else pass(todo) end
  end
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
  if outcome == 'succeeded' then
    call('HINCRBY', meta, 'intents', -1)
    call('HINCRBY', meta, 'intents.' .. p.repo, -1)
    pass(todo)
  end
  pump()
  finish_if_done()
end
