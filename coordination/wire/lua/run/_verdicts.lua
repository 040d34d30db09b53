-- uses: breaker
-- What a run's steps ask of circuit breakers, and tell them: of its repository's, about the worker there; of those of the resources
-- that a todo holds, about the todo's own failures.

-- The run's own, and `none`: the resources that have no breaker. Nil where breakers never open.
local function policy_of_run()
  local failures, window_ms, open_ms, none = string.match(call('HGET', meta, 'breakers') or '', '^(%d+) (%d+) (%d+)(.*)$')
  if not failures or failures == '0' then return nil end
  return { failures = tonumber(failures), window_ms = tonumber(window_ms), open_ms = tonumber(open_ms), none = none .. ' ' }
end

local function breakers_of(p, policy)
  local names = { 'repo:' .. p.repo }
  for name in string.gmatch(p.wants, ' (resource:[^\n]+)') do
    if not string.find(policy.none, ' ' .. name .. ' ', 1, true) then names[#names + 1] = name end
  end
  return names
end

local function all_at_rest() return call('EXISTS', head .. KEY.breakers) == 0 end

-- Asks all of its breakers, and takes nothing. Where one does not let it through it is parked behind it, holding nothing, and
-- true is returned; else the breakers that it would probe.
local function stands_behind(todo, p)
  local policy = not all_at_rest() and policy_of_run()
  if not policy then return false, {} end
  local id, why, due, retry_at = member(todo), {}, {}, now + 1
  for _, name in ipairs(breakers_of(p, policy)) do
    local state, ends = stance(name, id)
    if ends then
      call('ZADD', key(KEY.breaker_behind, name), 'NX', now, id)
      why[#why + 1] = breaker_in_words(name, state, ends)
      retry_at = math.max(retry_at, ends)
    elseif state == PROBE then
      call('ZREM', key(KEY.breaker_behind, name), id)
      due[#due + 1] = name
    end
  end
  if #why == 0 then return false, due end
  let_go(todo, p)
  call('ZREM', ready, todo)
  call('ZREM', queued, queue_key(p, todo))
  free_repo(p, todo)
  set_aside(todo, table.concat(why, ' and '), retry_at - now)
  pump()
  return true
end

local function probe_with(todo, due)
  for _, name in ipairs(due) do begin_probe(name, member(todo), todo .. ' of run ' .. run, BY_LEASE) end
end

-- `outcome`: `succeeded`, `failed`, or any other: that says nothing. `blame`: `worker` where the failure was none of the todo's own.
local function tell_breakers(todo, outcome, blame, why)
  local policy = (outcome == 'failed' or not all_at_rest()) and policy_of_run()
  if not policy then return end
  local id, p = member(todo), place_of(todo)
  for i, name in ipairs(breakers_of(p, policy)) do
    local of_worker = i == 1
    if outcome == 'failed' and of_worker == (blame == 'worker') then
      record_failure(name, id, todo .. ' ' .. why, policy)
    elseif outcome == 'succeeded' or (outcome == 'failed' and of_worker) then -- whoever carried a todo out did its work
      record_success(name, id)
    else
      leave_probe(name, id)
    end
  end
end
