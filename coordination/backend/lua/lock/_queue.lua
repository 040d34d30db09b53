-- The queues of names: a name that is taken or released is offered to the first request in its queue that
-- waits for nothing else.
-- A waiting request is in the queue of each name that it found taken, with the same rank everywhere, and
-- not in those of free names: it blocks nobody from a name that it could not use yet.

local OFFER_MS = 15000 -- how long an offer to a todo lasts until a worker claims the todo
local GRANT_KEPT_MS = 3000 -- how long a grant to a waiter lasts until the waiter asks again: it may be dead
local WAKE_MS = 60000

-- Return a request in the queue of a name, or nil if it is gone; then delete its place.
local function in_queue(queue, id)
  local request = load(id)
  if request and request.state == 'waiting' then return request end
  call('ZREM', queue, id)
end

-- Return whether a request with a lower rank is in the queue of the name and cannot share it with the
-- want.
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

-- Return the names that block the request, and put it into their queues.
local function blocking_names(request)
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

local function record_wait(request)
  for _, want in ipairs(request.wants) do
    if string.sub(want.name, 1, 9) == 'resource:' then
      local stats, waited = key(KEY.stats, want.name), now - request.arrived
      call('HINCRBY', stats, 'granted', 1)
      call('HINCRBY', stats, 'waited_ms', waited)
      if waited > tonumber(call('HGET', stats, 'longest_ms') or 0) then
        call('HSET', stats, 'longest_ms', waited)
      end
    end
  end
end

-- Grant all wants of a request; none of them may be taken. ttl 0: until it is released. The holder is
-- recorded last: if Redis denies its user one of these commands, no name is held by an unknown request.
local function grant(request, ttl)
  request.state, request.fence = 'held', next_fence()
  local record = key(KEY.request, request.id)
  local description = request.description or {}
  call('HSET', record, 'state', 'held', 'fence', request.fence, 'since', now, unpack(description))
  if ttl > 0 then call('PEXPIRE', record, ttl) elseif request.waited then call('PERSIST', record) end
  record_wait(request)
  for _, want in ipairs(request.wants) do
    call('SADD', head .. KEY.names, want.name)
    if request.waited then call('ZREM', key(KEY.queue, want.name), request.id) end
  end
  for _, want in ipairs(request.wants) do hold(request, want, ttl) end
  announce_names('granted', request)
  return request.fence
end

-- Notify the waiter of a grant. `kept_ms`: how long the grant lasts until the waiter asks again.
local function notify(request, kept_ms)
  if request.kind == 'todo' then
    call('ZADD', head .. KEY.timers, now, request.id) -- due if the releasing process dies now
    woken[#woken + 1] = request.id
  else
    local notification = string.format('held %s %s %.0f', request.fence, epoch(), kept_ms)
    call('RPUSH', key(KEY.wake, request.id), notification)
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

-- Offer names that may be free, wholly or in part, to the next requests.
local function offer_names(names)
  -- a request that waits for many names is tried once between two grants, not once for each name
  local waiting, in_way_of = {}, {}
  while #names > 0 do
    local name = table.remove(names)
    local queue = key(KEY.queue, name)
    for _, id in ipairs(call('ZRANGE', queue, 0, -1)) do
      local request = waiting[id] or in_queue(queue, id)
      local in_way = in_way_of[id] or request and blocking_names(request)
      waiting[id], in_way_of[id] = request, in_way
      if request and #in_way == 0 then
        request.waited = true
        waiting[id], in_way_of = nil, {}
        local kept_ms = request.kind == 'todo' and OFFER_MS or math.min(request.ttl, GRANT_KEPT_MS)
        grant(request, kept_ms)
        notify(request, kept_ms)
        -- It may have blocked others at names of which it left some capacity.
        for _, want in ipairs(request.wants) do
          if want.name ~= name then names[#names + 1] = want.name end
        end
      elseif request and request.kind == 'todo' and string.sub(name, 1, 5) == 'slot:'
        and not includes(in_way, name) then
        -- The repository is free for the todo, but a resource is not: other todos work there meanwhile.
        call('ZREM', queue, id)
        in_way_of = {}
        notify(request)
      elseif request and want_for(request, name).mode ~= 's' then
        break
      end
    end
    forget_name_if_idle(name)
  end
end

-- Release the grants of a request and offer them to the next. Return whether it held all of them until now.
local function release_grants(request)
  local whole = true
  for _, want in ipairs(request.wants) do
    if not holds(request, want) then
      whole = false
    elseif want.mode == 'x' then
      call('DEL', head .. want.name)
    else
      -- in order of time, as `record_use` needs it
      if string.sub(want.name, 1, 9) == 'resource:' then drop_expired_shares(want.name) end
      call('ZREM', shares_of(want), share_of(want, request.id))
      record_use(want.name, -want.amount, now)
    end
  end
  forget(request)
  announce_names('released', request)
  offer_names(names_of(request))
  return whole
end

-- Withdraw a waiting request; those behind it may continue.
local function withdraw(request)
  for _, want in ipairs(request.wants) do call('ZREM', key(KEY.queue, want.name), request.id) end
  forget(request)
  offer_names(names_of(request))
end

-- Release or withdraw a request, whether it holds, was offered or waits. Return whether it existed.
local function give_back(id)
  local request = load(id)
  if not request then return false end
  if request.state == 'held' then release_grants(request) else withdraw(request) end
  return true
end
