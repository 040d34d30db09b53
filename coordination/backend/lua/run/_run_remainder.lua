-- Work on all todos of a run, in pieces. Redis executes one step at a time, and ending 50,000 todos takes two
-- seconds. The step that decides does the first piece, which is all for most plans. Its remainder is recorded
-- in meta until the maintenance leader has done it with step `remainder`: `ending` (`cursor outcome why`: all
-- todos that do not run end), `doomed` (a line `todo why` for each todo whose dependents are skipped),
-- `opening` (cursor: todos without open predecessors become ready); `piece` is the number of the next piece.
-- The remainder cannot start anything meanwhile: the queues are emptied first, `no_new_start` guards the
-- entry to them, and while `ending` or `doomed` exist the run has no end and opens no level.

local PAGE = 100 -- fields read with one command

local function leave(what, words)
  call('HSET', meta, what, words)
  call('HINCRBY', meta, 'piece', 1)
end

-- Call `action` with each todo and its value from a cursor on, until the budget is spent. Return where to
-- continue: 0 at the end. Only for hashes whose set of fields does not change.
local function scan_hash(hash, cursor, action)
  for _ = 1, SCAN_LIMIT, PAGE do
    local scanned = call('HSCAN', hash, cursor, 'COUNT', PAGE)
    cursor = scanned[1]
    for i = 1, #scanned[2], 2 do action(scanned[2][i], scanned[2][i + 1]) end
    if cursor == '0' or budget.left <= 0 then break end
  end
  return cursor
end

local function end_unless_running(todo, at, outcome, why)
  if at == 'running' or ENDED[at] then return end
  budget.left = budget.left - 1
  if at == 'retrying' and outcome == 'skipped' then
    end_todo(todo, 'failed', (fact(todo, 'error') or '') .. ' (not tried again: ' .. why .. ')')
  else
    end_todo(todo, outcome, why)
  end
end

local function end_some()
  local cursor, outcome, why = string.match(call('HGET', meta, 'ending'), '^(%d+) (%S+) (.*)$')
  local function end_one(todo, at) end_unless_running(todo, at, outcome, why) end
  local following = scan_hash(state, cursor, end_one)
  if following ~= '0' then return leave('ending', following .. ' ' .. outcome .. ' ' .. why) end
  call('HDEL', meta, 'ending', 'piece')
end

-- End all todos that do not run; running ones finish.
local function end_all_but_running(outcome, why)
  for _, todo in ipairs(call('ZRANGE', sent, 0, -1)) do
    end_unless_running(todo, state_of(todo), outcome, why)
  end
  call('DEL', ready, queued, occupant, unsent, stranded)
  call('HDEL', meta, 'opening', 'doomed', 'piece')
  call('HSET', meta, 'ending', '0 ' .. outcome .. ' ' .. why)
  end_some()
end

local function skip_dependents(todo, why)
  local heap = { todo }
  while #heap > 0 do
    local before = table.remove(heap)
    for child in string.gmatch(call('HGET', children, before) or '', '%S+') do
      if not ENDED[state_of(child)] and not waves.tolerates(child, before) then
        if budget.left <= 0 then
          heap[#heap + 1] = before
          local lines = call('HGET', meta, 'doomed') or ''
          for _, doomed in ipairs(heap) do lines = lines .. doomed .. ' ' .. why .. '\n' end
          return leave('doomed', lines)
        end
        budget.left = budget.left - 1
        end_todo(child, 'skipped', why)
        heap[#heap + 1] = child
      end
    end
  end
end

local function skip_some()
  local lines = call('HGET', meta, 'doomed')
  call('HDEL', meta, 'doomed')
  for todo, why in string.gmatch(lines, '(%S+) ([^\n]+)') do skip_dependents(todo, why) end
  local done = call('HEXISTS', meta, 'doomed') == 0 and call('HEXISTS', meta, 'opening') == 0
  if done then call('HDEL', meta, 'piece') end
end

-- Make a todo ready whose predecessors are all done. Todos beyond this piece stay `waiting` until theirs.
local function open_todo(todo)
  if budget.left <= 0 then
    if call('HGET', meta, 'opening') ~= '0' then leave('opening', '0') end
    return
  end
  budget.left = budget.left - 1
  enqueue(todo)
end

local function open_some()
  local following = scan_hash(pending, call('HGET', meta, 'opening'), function(todo, before)
    if before ~= '0' or state_of(todo) ~= 'waiting' then return end
    budget.left = budget.left - 1
    enqueue(todo)
  end)
  if following ~= '0' then return leave('opening', following) end
  call('HDEL', meta, 'opening')
  if call('HEXISTS', meta, 'doomed') == 0 then call('HDEL', meta, 'piece') end
end

-- Return the running todos of this run. Reads the leases of all runs, which are no more than there are slots.
local function running_todos()
  local found, ours = {}, member('')
  for _, id in ipairs(call('ZRANGE', leases, 0, -1)) do
    local todo = string.sub(id, #ours + 1)
    if string.sub(id, 1, #ours) == ours and state_of(todo) == 'running' then found[#found + 1] = todo end
  end
  return found
end

-- Ask the running todos to stop: their workers read it at their next heartbeat. Return these workers.
local function stop_running()
  local workers = {}
  for _, todo in ipairs(running_todos()) do
    call('SADD', stops, member(todo))
    workers[fact(todo, 'worker')] = true
  end
  return workers
end

-- Ask workers that listen for an immediate heartbeat.
local function request_heartbeats(workers)
  for worker in pairs(workers) do call('PUBLISH', head .. KEY.mail .. 'worker:' .. worker, 'beat') end
end
