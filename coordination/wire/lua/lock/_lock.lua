-- Who holds which names and who is next: what the steps of locks share, and the steps of runs with them. The page: locks/__init__.py.
-- A step sets `head`, the namespace with its colon. The names of keys (table KEY) come from wire/keys.py.
--
-- A request asks for its wants all at once. A want is a line `<mode> <name>`: mode `x` is exclusive, `s` shared, `2/4` two of a
-- capacity of four, `2/0` two of the capacity that was declared for the resource.
-- A request that is to wait stands in the queue of each name that it has found taken, at one rank everywhere, and not in those
-- of names that were free: it keeps nobody from what it could not use yet.

if redis.replicate_commands then redis.replicate_commands() end -- Redis 6.2 needs it before TIME; later ones ignore it

local call = redis.call
local TIME = call('TIME')
local now_us = TIME[1] * 1000000 + TIME[2]
local now = math.floor(now_us / 1000)
local PRIORITY_STEP_US = 5000000 -- so much waiting outweighs one step of priority: a fixed rank that is linear ageing
local OFFER_MS = 15000 -- how long a todo's share is kept for it until a worker comes for the todo
local HANDED_MS = 3000 -- how long what was handed to a waiter is kept until it asks again: it may be dead
local DONE_MS = 10000 -- a release that is sent twice within this time was one release
local WAKE_MS = 60000

local head -- the namespace, with its colon
local woken = {} -- todos that were granted what they waited for: `run todo`

local function key(part, name) return head .. part .. name end

local function wants_of(text)
  local wants = {}
  for mode, name in string.gmatch(text, '(%S+) ([^\n]+)') do
    local amount, capacity = string.match(mode, '^(%d+)/(%d+)$')
    wants[#wants + 1] = { name = name, mode = mode, amount = tonumber(amount or 1), capacity = tonumber(capacity or 0) }
  end
  return wants
end

local FIELDS = { 'state', 'wants', 'rank', 'ttl', 'kind', 'party', 'fence', 'arrived' }

-- A request as it stands, or nil: who holds past the ttl, or waits without renewing its place, is forgotten by Redis itself.
local function load(id)
  local values = call('HMGET', key(KEY.request, id), unpack(FIELDS))
  if not values[1] then return nil end
  local request = { id = id }
  for i, field in ipairs(FIELDS) do request[field] = values[i] end
  request.rank, request.ttl, request.arrived = tonumber(request.rank), tonumber(request.ttl), tonumber(request.arrived)
  request.wants = wants_of(request.wants)
  return request
end

-- Never below the clock in microseconds: a server that lost its data gives out no old fence again.
local function next_fence()
  local fence = math.max(tonumber(call('GET', head .. KEY.fence) or '0') + 1, now_us)
  fence = string.format('%.0f', fence)
  call('SET', head .. KEY.fence, fence)
  return fence
end

-- Made once for the data of a server: another one says that everything before it is gone.
local function epoch()
  local known = call('GET', head .. KEY.epoch)
  if known then return known end
  known = string.format('%.0f', now_us)
  call('SET', head .. KEY.epoch, known)
  return known
end

-- What a resource is used for, summed up to `at`: the area under the amounts in use, in ms.
local function account(name, change, at)
  if string.sub(name, 1, 9) ~= 'resource:' then return end
  local stats = key(KEY.stats, name)
  local used, since = unpack(call('HMGET', stats, 'used', 'since'))
  if not since then call('HSET', stats, 'from', at) end
  used, since = tonumber(used or 0), tonumber(since or at)
  call('HINCRBY', stats, 'used_ms', string.format('%.0f', used * math.max(0, at - since)))
  call('HSET', stats, 'used', math.max(0, used + change), 'since', string.format('%.0f', math.max(at, since)))
end

local function shares_of(want) return key(KEY.shares, want.name) end
local function share_of(want, id) return want.amount .. ' ' .. id end

local function drop_expired_shares(name)
  local shares = key(KEY.shares, name)
  local over = call('ZRANGEBYSCORE', shares, '-inf', now, 'WITHSCORES')
  for i = 1, #over, 2 do account(name, -tonumber(string.match(over[i], '^%d+')), tonumber(over[i + 1])) end
  if #over > 0 then call('ZREMRANGEBYSCORE', shares, '-inf', now) end
end

local function capacity_of(want)
  if want.capacity > 0 then return want.capacity end
  return tonumber(call('HGET', head .. KEY.capacities, want.name) or 0)
end

-- Whether the holders of the name leave room for the want.
local function has_room(want)
  if want.mode == 's' then return call('EXISTS', head .. want.name) == 0 end
  drop_expired_shares(want.name)
  local shares = call('ZRANGE', shares_of(want), 0, -1)
  if want.mode == 'x' then return #shares == 0 and call('EXISTS', head .. want.name) == 0 end
  local free = capacity_of(want)
  for _, share in ipairs(shares) do free = free - tonumber(string.match(share, '^%d+')) end
  return want.amount <= free
end

local function want_for(request, name)
  for _, want in ipairs(request.wants) do
    if want.name == name then return want end
  end
end

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

local function hold(request, want, ttl)
  if want.mode == 'x' then
    local guard = key(KEY.guard, want.name)
    if call('EXISTS', guard) == 1 then call('HSET', guard, 'newest', request.fence) end
    assert(call('SET', head .. want.name, request.id, 'NX', 'PX', ttl))
  else
    call('ZADD', shares_of(want), ttl == 0 and '+inf' or now + ttl, share_of(want, request.id))
    account(want.name, want.amount, now)
  end
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
  call('HSET', record, 'state', 'held', 'fence', request.fence, 'since', now)
  if ttl > 0 then call('PEXPIRE', record, ttl) elseif request.waited then call('PERSIST', record) end
  note_wait(request)
  for _, want in ipairs(request.wants) do
    call('SADD', head .. KEY.names, want.name)
    if request.waited then call('ZREM', key(KEY.queue, want.name), request.id) end
  end
  for _, want in ipairs(request.wants) do hold(request, want, ttl) end
  return request.fence
end

local function tell(request)
  if request.kind == 'todo' then
    call('ZADD', head .. KEY.timers, now, request.id) -- the keeper's, should whoever released it die now
    woken[#woken + 1] = request.id
  else
    call('RPUSH', key(KEY.wake, request.id), request.fence)
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
        grant(request, request.kind == 'todo' and OFFER_MS or math.min(request.ttl, HANDED_MS))
        tell(request)
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

local function names_of(request)
  local names = {}
  for i, want in ipairs(request.wants) do names[i] = want.name end
  return names
end

-- By the owner its requests are found, and the owner by the sweeper.
local function enrol(id, party)
  call('SADD', key(KEY.party, party), id)
  call('SADD', head .. KEY.parties, party)
end

local function disown(id, party)
  call('SREM', key(KEY.party, party), id)
  if call('EXISTS', key(KEY.party, party)) == 0 then call('SREM', head .. KEY.parties, party) end
end

local function forget(request)
  call('DEL', key(KEY.request, request.id))
  if request.kind ~= 'todo' then disown(request.id, request.party) end -- that is a party of its own
end

-- Whether the request still holds the want.
local function holds(request, want)
  if want.mode == 'x' then return call('GET', head .. want.name) == request.id end
  local expiry = call('ZSCORE', shares_of(want), share_of(want, request.id))
  return expiry and tonumber(expiry) > now
end

local function last(key_of_it, ttl)
  if ttl > 0 then call('PEXPIRE', key_of_it, ttl) else call('PERSIST', key_of_it) end
end

-- What the request holds is kept for another ttl. Returns whether it still holds all of it.
local function prolong(request)
  for _, want in ipairs(request.wants) do
    if not holds(request, want) then return false end
  end
  for _, want in ipairs(request.wants) do
    if want.mode == 'x' then
      last(head .. want.name, request.ttl)
    else
      call('ZADD', shares_of(want), 'XX', request.ttl == 0 and '+inf' or now + request.ttl, share_of(want, request.id))
    end
  end
  last(key(KEY.request, request.id), request.ttl)
  return true
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
      drop_expired_shares(want.name) -- in the order of time, as `account` counts
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

-- In how many ms a holder of one of the names expires, at the soonest; nil where none will.
local function next_expiry(names)
  local soonest
  local function consider(ms) if ms >= 0 and (not soonest or ms < soonest) then soonest = ms end end
  for _, name in ipairs(names) do
    consider(call('PTTL', head .. name))
    local first = call('ZRANGE', key(KEY.shares, name), 0, 0, 'WITHSCORES')[2]
    if first and first ~= 'inf' then consider(tonumber(first) - now) end
  end
  return soonest
end
