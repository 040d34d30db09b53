-- The needs of a running todo: its repository slot and its resources. One lock request for each todo asks for
-- all of them at once. The id of the request is the todo's member, `run todo`; the run's steps release it.

local function kind_of(name) return string.match(name, '^([^:]*):(.*)$') end

-- Return why the request can never be granted; nil if it can.
local function shortfall(request)
  for _, want in ipairs(request.wants) do
    local capacity = capacity_of(want)
    if want.amount > capacity then
      local _, what = kind_of(want.name)
      if capacity == 0 then
        return string.format('needs %s, and there is no such resource any more: declare it again', what)
      end
      local form = 'needs %d of %s, which has a capacity of %d: lower the amount, or raise the capacity'
      return string.format(form, want.amount, what, capacity)
    end
  end
end

-- Turn an offer into a grant; nil if the offer has expired. The grant has a new fence, because others may
-- have begun since the offer.
local function keep(request)
  if not prolong(request) then return nil end
  request.fence = next_fence()
  call('HSET', key(KEY.request, request.id), 'fence', request.fence, 'since', now)
  return request.fence
end

-- Return the fence, or nil and the blocking names, in whose queues the request waits from now on.
local function ask(request, text, priority)
  local names = blocking_names(request)
  request.description = {
    'wants', text, 'rank', string.format('%.0f', request.rank), 'ttl', 0, 'kind', 'todo', 'party', request.id,
    'arrived', request.arrived, 'priority', priority,
  }
  if #names == 0 then return grant(request, 0) end
  call('HSET', key(KEY.request, request.id), 'state', 'waiting', unpack(request.description))
  return nil, names
end

local obstacles

do
  local NAMED = 3 -- number of blocking holders that a wait reason names

  local function request_text(id)
    local its_run, todo = string.match(id, '^(%S+) (%S+)$')
    if its_run then return todo .. ' of run ' .. its_run end
    local host, pid, label = unpack(call('HMGET', key(KEY.request, id), 'host', 'pid', 'label'))
    local words = string.format('process %s on %s', pid or '?', host or '?')
    return label and label ~= '' and words .. ' (' .. label .. ')' or words
  end

  local function resource_text(name, want)
    local used, who = 0, {}
    for _, share in ipairs(call('ZRANGE', shares_of(want), 0, -1)) do
      local amount, id = string.match(share, '^(%d+) (.*)$')
      used = used + tonumber(amount)
      who[#who + 1] = #who < NAMED and request_text(id) or nil
    end
    local capacity = capacity_of(want)
    local words = string.format('%d of %d in use', used, capacity)
    if #who > 0 then words = words .. ' by ' .. table.concat(who, ', ') end
    local first = call('ZRANGE', key(KEY.queue, want.name), 0, 0)[1]
    if used + want.amount <= capacity and first then
      words = words .. '; ' .. request_text(first) .. ' comes first'
    elseif want.amount > 1 then
      words = words .. '; it needs ' .. want.amount
    end
    return string.format('resource %s (%s)', name, words)
  end

  local function slot_text(name, want)
    local share = call('ZRANGE', shares_of(want), 0, 0)[1]
    local id = share or call('ZRANGE', key(KEY.queue, want.name), 0, 0)[1] or ''
    local by_run = string.match(id, '(%S+) %S+$')
    local repo = string.match(name, '^[^:]*')
    local by = share and 'in use by run %s' or 'where run %s comes first'
    return string.format('repository %s, ' .. by, repo, by_run or '?')
  end

  -- Describe what the request waits for.
  function obstacles(request, names)
    local words = {}
    for i, name in ipairs(names) do
      local kind, what = kind_of(name)
      if kind == 'land' or kind == 'agent' then what = kind .. ' ' .. what end
      words[i] = (kind == 'slot' and slot_text or resource_text)(what, want_for(request, name))
    end
    return table.concat(words, ' and ')
  end
end

local function has_slot(names)
  for _, name in ipairs(names) do
    if kind_of(name) == 'slot' then return true end
  end
  return false
end
