-- Who is next: a name that is taken or given back goes to the first in its queue whom nothing else keeps waiting.
-- A request that is to wait stands in the queue of each name that it has found taken, at one rank everywhere, and not in those
-- of names that were free: it keeps nobody from what it could not use yet.

local OFFER_MS = 15000 -- how long a todo's share is kept for it until a worker comes for the todo
local HANDED_MS = 3000 -- how long what was handed to a waiter is kept until it asks again: it may be dead
local WAKE_MS = 60000

-- A request in the queue of a name, or nil where it is gone: then its place is cleared as well.
local function in_queue(queue, id)
  local request = load(id)
  if request and request.state == 'waiting' then return request end
  call('ZREM', queue, id)
end

-- Whether somebody stands in the queue of the name who comes first, and with whom the want cannot be shared.
local function is_behind(want, id, rank)
  local queue = key(KEY.queue, want.name)
  for i = 0, math.huge do
    local first = call('ZRANGE', queue, i, i, 'WITHSCORES')
    if not first[1] or first[1] == id or tonumber(first[2]) > rank then return false end
    local request = in_queue(queue, first[1])
    if not request then return is_behind(want, id, rank) end
    if want.mode ~= 's' or want_for(request, want.name).mode ~= 's' then return true end
  end
end

-- The names that stand in the way of the request; it takes its place in their queues.
local function taken(request)
  local names = {}
  local joins = request.joins ~= false
  for _, want in ipairs(request.wants) do
    local queued = call('EXISTS', key(KEY.queue, want.name)) == 1
    if not has_room(want) or (queued and is_behind(want, request.id, request.rank)) then
      names[#names + 1] = want.name
      if joins then
        call('ZADD', key(KEY.queue, want.name), string.format('%.0f', request.rank), request.id)
        call('SADD', head .. KEY.names, want.name)
      end
    end
  end
  return names
end

local function note_wait(request)
  for _, want in ipairs(request.wants) do
    if string.sub(want.name, 1, 9) == 'resource:' then
      local stats, waited = key(KEY.stats, want.name), now - request.arrived
      call('HINCRBY', stats, 'granted', 1)
      call('HINCRBY', stats, 'waited_ms', waited)
      if waited > tonumber(call('HGET', stats, 'longest_ms') or 0) then call('HSET', stats, 'longest_ms', waited) end
    end
  end
end

-- Everything at once: nothing of it may be taken. ttl 0 is for as long as nobody releases it.
-- Holding comes last: where Redis denies its user one of these commands, nothing is held that nobody knows of.
local function grant(request, ttl)
  request.state, request.fence = 'held', next_fence()
  local record = key(KEY.request, request.id)
  call('HSET', record, 'state', 'held', 'fence', request.fence, 'since', now, unpack(request.description or {}))
  if ttl > 0 then call('PEXPIRE', record, ttl) elseif request.waited then call('PERSIST', record) end
  note_wait(request)
  for _, want in ipairs(request.wants) do
    call('SADD', head .. KEY.names, want.name)
    if request.waited then call('ZREM', key(KEY.queue, want.name), request.id) end
  end
  for _, want in ipairs(request.wants) do hold(request, want, ttl) end
  return request.fence
end

-- `kept_ms`: for how long what it was handed is kept for it.
local function tell(request, kept_ms)
  if request.kind == 'todo' then
    call('ZADD', head .. KEY.timers, now, request.id) -- the keeper's, should whoever released it die now
    woken[#woken + 1] = request.id
  else
    call('RPUSH', key(KEY.wake, request.id), string.format('held %s %s %.0f', request.fence, epoch(), kept_ms))
    call('PEXPIRE', key(KEY.wake, request.id), WAKE_MS)
  end
end

local function forget_name_if_idle(name)
  if call('EXISTS', head .. name, key(KEY.shares, name), key(KEY.queue, name)) == 0 then
    call('SREM', head .. KEY.names, name)
  end
end

local function includes(list, value)
  for _, one in ipairs(list) do
    if one == value then return true end
  end
  return false
end

-- The names may be free, wholly or in part: they go to whoever is next.
local function hand_over(names)
  local waiting, in_way_of = {}, {} -- who waits for many names is looked at once between two grants, not once for each
  while #names > 0 do
    local name = table.remove(names)
    local queue = key(KEY.queue, name)
    for _, id in ipairs(call('ZRANGE', queue, 0, -1)) do
      local request = waiting[id] or in_queue(queue, id)
      local in_way = in_way_of[id] or request and taken(request)
      waiting[id], in_way_of[id] = request, in_way
      if request and #in_way == 0 then
        request.waited = true
        waiting[id], in_way_of = nil, {}
        local kept_ms = request.kind == 'todo' and OFFER_MS or math.min(request.ttl, HANDED_MS)
        grant(request, kept_ms)
        tell(request, kept_ms)
        -- It may have kept others waiting for names of which it has left something.
        for _, want in ipairs(request.wants) do
          if want.name ~= name then names[#names + 1] = want.name end
        end
      elseif request and request.kind == 'todo' and string.sub(name, 1, 5) == 'seat:' and not includes(in_way, name) then
        -- The repository is free for the todo, and a resource is not: others work there until it is.
        call('ZREM', queue, id)
        in_way_of = {}
        tell(request)
      elseif request and want_for(request, name).mode ~= 's' then
        break
      end
    end
    forget_name_if_idle(name)
  end
end

-- What the request holds is given back, and goes to whoever is next. Returns whether it held all of it until now.
local function let_loose(request)
  local whole = true
  for _, want in ipairs(request.wants) do
    if not holds(request, want) then
      whole = false
    elseif want.mode == 'x' then
      call('DEL', head .. want.name)
    else
      if string.sub(want.name, 1, 9) == 'resource:' then drop_expired_shares(want.name) end -- in the order of time, as `account` counts
      call('ZREM', shares_of(want), share_of(want, request.id))
      account(want.name, -want.amount, now)
    end
  end
  forget(request)
  hand_over(names_of(request))
  return whole
end

-- A request that waits is withdrawn; those behind it may go on.
local function withdraw(request)
  for _, want in ipairs(request.wants) do call('ZREM', key(KEY.queue, want.name), request.id) end
  forget(request)
  hand_over(names_of(request))
end

-- What a request holds, was offered or waits for goes to whoever is next. Returns whether there was one.
local function give_back(id)
  local request = load(id)
  if not request then return false end
  if request.state == 'held' then let_loose(request) else withdraw(request) end
  return true
end
