-- Lock requests and their grants, for the steps of locks and those of runs. The queue follows in _queue.lua.
-- Design: locks/__init__.py.
--
-- A request asks for all its wants at once. A want is a line `<mode> <name>`: mode `x` is exclusive, `s`
-- shared, `2/4` two of a capacity of four, `2/0` two of the declared capacity of the resource.

-- this much waiting outweighs one step of priority: a fixed rank with linear ageing
local PRIORITY_STEP_US = 5000000
local DONE_MS = 10000 -- a release repeated within this time counts as one

local function key(part, name) return head .. part .. name end

local function wants_of(text)
  local wants = {}
  for mode, name in string.gmatch(text, '(%S+) ([^\n]+)') do
    local amount, capacity = string.match(mode, '^(%d+)/(%d+)$')
    wants[#wants + 1] = {
      name = name, mode = mode, amount = tonumber(amount or 1), capacity = tonumber(capacity or 0),
    }
  end
  return wants
end

-- Write the event of a name of a request, if somebody asks for it: `lock.granted`, `resource.waiting`. Seats
-- of repositories belong to todos.
local function announce_name(word, name, id)
  local noun = string.match(name, '^(%l+):')
  if noun ~= 'slot' then announce_if_asked(noun .. '.' .. word, name, 'request', id) end
end

local function announce_names(word, request)
  if request.kind == 'todo' then return end -- todos write no events of their resources
  for _, want in ipairs(request.wants) do announce_name(word, want.name, request.id) end
end

local FIELDS = { 'state', 'wants', 'rank', 'ttl', 'kind', 'party', 'fence', 'arrived' }

-- Return a request, or nil: Redis itself deletes a holder past its ttl and a waiter that does not renew its
-- place.
local function load(id)
  local values = call('HMGET', key(KEY.request, id), unpack(FIELDS))
  if not values[1] then return nil end
  local request = { id = id }
  for i, field in ipairs(FIELDS) do request[field] = values[i] end
  request.rank, request.ttl = tonumber(request.rank), tonumber(request.ttl)
  request.arrived = tonumber(request.arrived)
  request.wants = wants_of(request.wants)
  return request
end

-- Return a new fence, never below the clock in µs: a server that lost its data gives out no old fence again.
-- An invalid stored value counts as none, and so does a number so large that adding one changes nothing,
-- because two holders would get the same (2^52 µs: the year 2112).
local function next_fence()
  local kept = call('GET', head .. KEY.fence) or ''
  local fence = string.find(kept, '^%d+$') and tonumber(kept) or 0
  fence = math.max(fence < 9007199254740991 and fence + 1 or 0, now_us)
  fence = string.format('%.0f', fence)
  call('SET', head .. KEY.fence, fence)
  return fence
end

-- Return the id of the server's data, made once: another id means that everything before is lost.
local function epoch()
  local known = call('GET', head .. KEY.epoch)
  if known and string.find(known, '^%d+$') then return known end
  known = string.format('%.0f', now_us)
  call('SET', head .. KEY.epoch, known)
  return known
end

-- Record the use of a resource up to `at`: the sum of amount × ms.
local function record_use(name, change, at)
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
  for i = 1, #over, 2 do record_use(name, -tonumber(string.match(over[i], '^%d+')), tonumber(over[i + 1])) end
  if #over > 0 then call('ZREMRANGEBYSCORE', shares, '-inf', now) end
end

local function capacity_of(want)
  if want.capacity > 0 then return want.capacity end
  return tonumber(call('HGET', head .. KEY.capacities, want.name) or 0)
end

-- Return whether the holders of the name leave room for the want.
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

local function hold(request, want, ttl)
  if want.mode == 'x' then
    local guard = key(KEY.guard, want.name)
    if call('EXISTS', guard) == 1 then call('HSET', guard, 'newest', request.fence) end
    assert(call('SET', head .. want.name, request.id, 'NX', 'PX', ttl))
  else
    call('ZADD', shares_of(want), ttl == 0 and '+inf' or now + ttl, share_of(want, request.id))
    record_use(want.name, want.amount, now)
  end
end

local function names_of(request)
  local names = {}
  for i, want in ipairs(request.wants) do names[i] = want.name end
  return names
end

-- Record a request with its owner, and the owner for the sweeper.
local function record_owner(id, party)
  call('SADD', key(KEY.party, party), id)
  call('SADD', head .. KEY.parties, party)
end

local function disown(id, party)
  call('SREM', key(KEY.party, party), id)
  if call('EXISTS', key(KEY.party, party)) == 0 then call('SREM', head .. KEY.parties, party) end
end

local function forget(request)
  call('DEL', key(KEY.request, request.id))
  if request.kind ~= 'todo' then disown(request.id, request.party) end -- a todo is its own owner
end

-- Return whether the request still holds the want.
local function holds(request, want)
  if want.mode == 'x' then return call('GET', head .. want.name) == request.id end
  local expiry = call('ZSCORE', shares_of(want), share_of(want, request.id))
  return expiry and tonumber(expiry) > now
end

-- Let a key expire after `ttl` ms; 0: never.
local function set_expiry(name, ttl)
  if ttl > 0 then call('PEXPIRE', name, ttl) else call('PERSIST', name) end
end

-- Renew the request's grants for another ttl. Return whether it still holds all of them.
local function prolong(request)
  for _, want in ipairs(request.wants) do
    if not holds(request, want) then return false end
  end
  for _, want in ipairs(request.wants) do
    if want.mode == 'x' then
      set_expiry(head .. want.name, request.ttl)
    else
      local expires = request.ttl == 0 and '+inf' or now + request.ttl
      call('ZADD', shares_of(want), 'XX', expires, share_of(want, request.id))
    end
  end
  set_expiry(key(KEY.request, request.id), request.ttl)
  return true
end

-- Return in how many ms the first holder of one of the names expires; nil if none will.
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
