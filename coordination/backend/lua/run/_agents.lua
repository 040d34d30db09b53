-- Agents of todos: how many may run at once, and the limits of their accounts.

local agents = {}

-- Return the agent of the present attempt, and the number of todos that it executes at once (0: any number);
-- nil for a todo without an agent, and for a compensation. The fact `agents` has the agents by attempt:
-- `<name>/<number>` each.
function agents.of(todo)
  local listed, tries, undoing = facts_of(todo, 'agents', 'tries', 'undo')
  if not listed or undoing then return nil end
  local name, parallel
  local left = (tonumber(tries) or 0) + 1
  for each, number in string.gmatch(listed, '(%S+)/(%d+)') do
    if left > 0 then name, parallel = each, tonumber(number) end
    left = left - 1
  end
  return name, parallel
end

-- Return the needs of a todo as text: those of its descriptor, and its share of its agent.
function agents.needs(todo, p)
  local name, parallel = agents.of(todo)
  if not name or parallel == 0 then return p.wants end
  return string.format('%s\n1/%d agent:%s', p.wants, parallel, name)
end

-- The account of the todo's agent is used up for some time: no other todo starts it meanwhile.
function agents.limit(todo, delay_ms, why)
  local name = agents.of(todo)
  if not name then return end
  name = 'agent:' .. name
  breaker.limit(name, now + delay_ms, why)
  call('ZADD', key(KEY.breaker_behind, name), 'NX', now, member(todo)) -- a reset wakes it, too
end

do
  local DAY_MS, KEPT_S = 86400000, 400 * 86400
  local NUMBERS = { 'rounds', 'turns', 'input', 'cached', 'output', 'micro_usd' }
  local MOST = 2 ^ 53 -- as in workers/agents/fields.py: beyond it, numbers are not exact

  -- Return the numbers of a stored use; none where it is damaged.
  local function numbers_of(stored)
    local found = {}
    for _, name in ipairs(NUMBERS) do
      local number = type(stored) == 'table' and tonumber(stored[name])
      if number and number >= 0 and number <= MOST * 1024 then found[name] = number end
    end
    return found
  end

  local function read_use(todo)
    local is_read, kept = pcall(cjson.decode, fact(todo, 'usage') or '{}')
    if not is_read or type(kept) ~= 'table' then kept = {} end
    return { before = numbers_of(kept.before), now = numbers_of(kept.now), fence = kept.fence }
  end

  local function key_of_today() return head .. KEY.agent_use .. math.floor(now / DAY_MS) end

  -- A sum that is too large for Redis stays as it is.
  local function add(hash, field, number)
    if number ~= 0 then redis.pcall('HINCRBY', hash, field, string.format('%.0f', number)) end
  end

  -- Add what a todo has used further to the sums of its plan, of this day and of all time.
  local function count_use(todo, further)
    local today, plan = key_of_today(), call('HGET', meta, 'plan_id') or '-'
    local agent = agents.of(todo) or '-'
    local row = plan .. ' ' .. place_of(todo).repo .. ' ' .. agent .. ' '
    for name, number in pairs(further) do
      add(today, row .. name, number)
      add(counters, 'agent.' .. agent .. '.' .. name, number)
    end
    local tokens = (further.input or 0) + (further.output or 0)
    for name, number in pairs({ tokens = tokens, micro_usd = further.micro_usd or 0 }) do
      add(today, name, number)
      add(head .. KEY.agent_use_of_plans, plan .. ' ' .. name, number)
    end
    call('EXPIRE', today, KEPT_S)
  end

  -- Replace what the attempt with this fence has used so far.
  function agents.use(todo, fence, used)
    local kept, further = read_use(todo), {}
    if kept.fence ~= fence then
      for name, number in pairs(kept.now) do kept.before[name] = (kept.before[name] or 0) + number end
      kept.now, kept.fence = {}, fence
    end
    local total = numbers_of(used)
    for name, number in pairs(total) do further[name] = number - (kept.now[name] or 0) end
    kept.now = total
    note(todo, 'usage', cjson.encode(kept))
    count_use(todo, further)
  end

  local function text_of(name, used, limit)
    if name == 'micro_usd' then return string.format('%.2f of %.2f USD', used / 1000000, limit / 1000000) end
    return string.format('%.0f of %.0f tokens', used, limit)
  end

  -- Return why an agent may not start the todo now, and when that changes by itself, in ms (nil: never); nil
  -- if it may. The field `agent_budgets` of the run has a line `<plan or day> <number> <limit>` each.
  function agents.over_budget(todo)
    local limits = call('HGET', meta, 'agent_budgets')
    if not limits or not agents.of(todo) or fact(todo, 'budget_approved') then return nil end
    local plan = call('HGET', meta, 'plan_id') or '-'
    for scope, name, limit in string.gmatch(limits, '(%l+) ([%l_]+) (%d+)') do
      local is_day = scope == 'day'
      local hash = is_day and key_of_today() or head .. KEY.agent_use_of_plans
      local used = tonumber(call('HGET', hash, is_day and name or plan .. ' ' .. name)) or 0
      if used >= tonumber(limit) then
        local whose = is_day and 'this day (UTC)' or plan
        return 'the budget of ' .. whose .. ' is used up: ' .. text_of(name, used, tonumber(limit)),
          is_day and (math.floor(now / DAY_MS) + 1) * DAY_MS or nil
      end
    end
  end
end
