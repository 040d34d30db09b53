-- What concerns every todo of a run is done in pieces: Redis does one thing at a time, and to end 50,000 todos takes two seconds.
-- The step that decides it does the first piece, which is all of it for most plans. What is left stands in meta until keepers have
-- done it, by step `remainder`: `ending` (`cursor outcome why`: whatever does not run ends), `doomed` (a line `todo why` for each
-- whose dependents are skipped), `opening` (cursor: what has nothing left before it is lined up); `piece` is the number of the next.
-- Nothing else may come of what is left by then: to be sent it would have to stand in a queue, and those are emptied first; to
-- be let in there, `no_new_start` is asked; a run has no end, and no level opens, before `ending` and `doomed` are gone.

local PAGE = 100 -- of those, at once

local function leave(what, words)
  call('HSET', meta, what, words)
  call('HINCRBY', meta, 'piece', 1)
end

-- From a cursor on, `deed` with each todo and its value, until the budget is spent. Returns where to go on: 0 at the end. For hashes
-- whose fields stay the same.
local function go_through(hash, cursor, deed)
  for _ = 1, LOOKED_AT, PAGE do
    local scanned = call('HSCAN', hash, cursor, 'COUNT', PAGE)
    cursor = scanned[1]
    for i = 1, #scanned[2], 2 do deed(scanned[2][i], scanned[2][i + 1]) end
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
  local following = go_through(state, cursor, function(todo, at) end_unless_running(todo, at, outcome, why) end)
  if following ~= '0' then return leave('ending', following .. ' ' .. outcome .. ' ' .. why) end
  call('HDEL', meta, 'ending', 'piece')
end

-- Nothing new starts: whatever does not run ends here; what runs finishes.
local function end_all_but_running(outcome, why)
  for _, todo in ipairs(call('ZRANGE', sent, 0, -1)) do end_unless_running(todo, state_of(todo), outcome, why) end
  call('DEL', ready, queued, busy, owed, stranded)
  call('HDEL', meta, 'opening', 'doomed', 'piece')
  call('HSET', meta, 'ending', '0 ' .. outcome .. ' ' .. why)
  end_some()
end

local function skip_dependents(todo, why)
  local heap = { todo }
  while #heap > 0 do
    local before = table.remove(heap)
    for child in string.gmatch(call('HGET', children, before) or '', '%S+') do
      if not ENDED[state_of(child)] then
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
  if call('HEXISTS', meta, 'doomed') == 0 and call('HEXISTS', meta, 'opening') == 0 then call('HDEL', meta, 'piece') end
end

-- Nothing is left before the todo. Those beyond a piece stay `waiting`, to be found by that.
local function open_todo(todo)
  if budget.left <= 0 then
    if call('HGET', meta, 'opening') ~= '0' then leave('opening', '0') end
    return
  end
  budget.left = budget.left - 1
  enqueue(todo)
end

local function open_some()
  local following = go_through(pending, call('HGET', meta, 'opening'), function(todo, before)
    if before ~= '0' or state_of(todo) ~= 'waiting' then return end
    budget.left = budget.left - 1
    enqueue(todo)
  end)
  if following ~= '0' then return leave('opening', following) end
  call('HDEL', meta, 'opening')
  if call('HEXISTS', meta, 'doomed') == 0 then call('HDEL', meta, 'piece') end
end

-- Of this run, by the leases of all runs: there are no more of them than slots.
local function running_todos()
  local found, ours = {}, member('')
  for _, id in ipairs(call('ZRANGE', leases, 0, -1)) do
    local todo = string.sub(id, #ours + 1)
    if string.sub(id, 1, #ours) == ours and state_of(todo) == 'running' then found[#found + 1] = todo end
  end
  return found
end

-- What runs is asked to stop: its workers see it at their next heartbeat. Returns them.
local function stop_running()
  local workers = {}
  for _, todo in ipairs(running_todos()) do
    call('SADD', stops, member(todo))
    workers[fact(todo, 'worker')] = true
  end
  return workers
end

-- That heartbeat comes now, where somebody listens.
local function have_beat(workers)
  for worker in pairs(workers) do call('PUBLISH', head .. KEY.mail .. 'worker:' .. worker, 'beat') end
end
