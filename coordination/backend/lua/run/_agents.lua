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
