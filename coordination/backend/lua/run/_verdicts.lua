-- What a run's steps ask of circuit breakers, and tell them: of its repository's, about the worker there; of those of the resources
-- that a todo holds, about the todo's own failures.

local verdicts = {}

do
  -- The run's own, and `none`: the resources that have no breaker. Nil where breakers never open.
  local function policy_of_run()
    local failures, window_ms, open_ms, none = string.match(call('HGET', meta, 'breakers') or '', '^(%d+) (%d+) (%d+)(.*)$')
    if not failures or failures == '0' then return nil end
    return { failures = tonumber(failures), window_ms = tonumber(window_ms), open_ms = tonumber(open_ms), none = none .. ' ' }
  end

  local function names_of_breakers(p, policy)
    local names = { 'repo:' .. p.repo }
    for name in string.gmatch(p.wants, ' (resource:[^\n]+)') do
      if not string.find(policy.none, ' ' .. name .. ' ', 1, true) then names[#names + 1] = name end
    end
    return names
  end

  -- Asks all of them, and takes nothing. Returns those that the todo would probe; and where one does not let it through, why, and
  -- until when in ms.
  local function asked(todo, p, policy)
    local id, why, due, retry_at = member(todo), {}, {}, now + 1
    for _, name in ipairs(names_of_breakers(p, policy)) do
      local state, ends = breaker.stance(name, id)
      if ends then
        call('ZADD', key(KEY.breaker_behind, name), 'NX', now, id)
        why[#why + 1] = breaker.in_words(name, state, ends)
        retry_at = math.max(retry_at, ends)
      elseif state == 'probe' then
        call('ZREM', key(KEY.breaker_behind, name), id)
        due[#due + 1] = name
      end
    end
    if #why == 0 then return due end
    return due, table.concat(why, ' and '), retry_at
  end

  local function stands_behind(todo, p)
    local policy = policy_of_run()
    if not policy then return false end
    local due, why, retry_at = asked(todo, p, policy)
    if not why then return false, due end
    let_go(todo, p)
    call('ZREM', ready, todo)
    call('ZREM', queued, queue_key(p, todo))
    free_repo(p, todo)
    set_aside(todo, 'breaker', why, retry_at - now)
    pump()
    return true
  end

  local function probe_with(todo, due)
    for _, name in ipairs(due) do breaker.begin_probe(name, member(todo), todo .. ' of run ' .. run, BY_LEASE) end
  end

  local function tell(todo, outcome, blame, why)
    local policy = policy_of_run()
    if not policy then return end
    local id, p = member(todo), place_of(todo)
    for i, name in ipairs(names_of_breakers(p, policy)) do
      local of_worker = i == 1
      if outcome == 'failed' and of_worker == (blame == 'worker') then
        breaker.failed(name, id, todo .. ' ' .. why, policy)
      elseif outcome == 'succeeded' or (outcome == 'failed' and of_worker) then -- whoever carried a todo out did its work
        breaker.succeeded(name, id)
      else
        breaker.gave_up(name, id)
      end
    end
  end

  verdicts.stands_behind, verdicts.probe_with, verdicts.tell = stands_behind, probe_with, tell
end

-- Where a breaker does not let the todo through it is parked behind it, holding nothing, and true is returned; else false, and the
-- breakers that it would probe, if any.
local function stands_behind(todo, p)
  if all_at_rest() then return false end
  return verdicts.stands_behind(todo, p)
end

-- `outcome`: `succeeded`, `failed`, or any other: that says nothing. `blame`: `worker` where the failure was none of the todo's own.
local function tell_breakers(todo, outcome, blame, why)
  if outcome == 'failed' or not all_at_rest() then verdicts.tell(todo, outcome, blame, why) end
end
