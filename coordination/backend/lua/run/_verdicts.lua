-- Circuit breakers of a run: the repository's breaker counts failures of the worker there; the breakers of
-- the todo's resources count failures of the todo itself; that of its agent is open while a limit lasts.

local verdicts = {}

do
  -- Return the run's policy, and the set `none` of resources without a breaker; nil if breakers never open.
  local function policy_of_run()
    local text = call('HGET', meta, 'breakers') or ''
    local failures, window_ms, open_ms, none = string.match(text, '^(%d+) (%d+) (%d+)(.*)$')
    if not failures or failures == '0' then return nil end
    return {
      failures = tonumber(failures), window_ms = tonumber(window_ms), open_ms = tonumber(open_ms),
      none = none .. ' ',
    }
  end

  local function names_of_breakers(p, policy)
    local names = { 'repo:' .. p.repo }
    for name in string.gmatch(p.wants, ' (resource:[^\n]+)') do
      if not string.find(policy.none, ' ' .. name .. ' ', 1, true) then names[#names + 1] = name end
    end
    return names
  end

  -- Ask all breakers without taking a probe. Return those that the todo would probe; or, if one refuses, why,
  -- until when in ms, and the reason to wait.
  local function ask_breakers(todo, p)
    local policy, its_agent = policy_of_run(), agents.of(todo)
    local names = policy and names_of_breakers(p, policy) or {}
    if its_agent then names[#names + 1] = 'agent:' .. its_agent end
    local id, why, due, retry_at, reason = member(todo), {}, {}, now + 1, 'breaker'
    for i, name in ipairs(names) do
      local state, ends = breaker.access(name, id)
      if ends then
        call('ZADD', key(KEY.breaker_behind, name), 'NX', now, id)
        why[#why + 1] = breaker.refusal_text(name, state, ends)
        retry_at = math.max(retry_at, ends)
        if its_agent and i == #names and #why == 1 then reason = 'limit' end
      elseif state == 'probe' then
        call('ZREM', key(KEY.breaker_behind, name), id)
        due[#due + 1] = name
      end
    end
    if #why == 0 then return due end
    return due, table.concat(why, ' and '), retry_at, reason
  end

  -- Park the todo if a breaker refuses it and return true; it holds nothing then. Else return false, and the
  -- breakers that it would probe.
  function verdicts.park(todo, p)
    if all_closed() then return false end
    local due, why, retry_at, reason = ask_breakers(todo, p)
    if not why then return false, due end
    release_all(todo, p)
    call('ZREM', ready, todo)
    call('ZREM', queued, queue_key(p, todo))
    release_repo(p, todo)
    park_with_timer(todo, reason, why, retry_at - now)
    dispatch_ready()
    return true
  end

  local function probe_with(todo, due)
    for _, name in ipairs(due) do
      breaker.begin_probe(name, member(todo), todo .. ' of run ' .. run, BY_LEASE)
    end
  end

  local function tell(todo, outcome, blame, why)
    local policy = policy_of_run()
    if not policy then return end
    local id, p = member(todo), place_of(todo)
    for i, name in ipairs(names_of_breakers(p, policy)) do
      local of_worker = i == 1
      if blame == 'signature' then
        breaker.gave_up(name, id)
      elseif outcome == 'failed' and of_worker == (blame == 'worker') then
        breaker.failed(name, id, todo .. ' ' .. why, policy)
      -- whether it succeeded or failed, the worker did its work
      elseif outcome == 'succeeded' or (outcome == 'failed' and of_worker) then
        breaker.succeeded(name, id)
      else
        breaker.gave_up(name, id)
      end
    end
  end

  verdicts.probe_with, verdicts.tell = probe_with, tell
end

-- Report a result to the breakers. `outcome`: `succeeded`, `failed`, or any other, which says nothing.
-- `blame`: `worker` if the failure was not the todo's own; `signature` if nothing ran, which says nothing.
local function tell_breakers(todo, outcome, blame, why)
  if outcome == 'failed' or not all_closed() then verdicts.tell(todo, outcome, blame, why) end
end
