-- List holders and waiters of names, all at one moment.
-- KEYS: head    ARGV: names
-- Returns: JSON [{what, capacity, epoch, holders, waiters}], with the fields of Held, Holder and Waiter
--   (locks/listing.py): moments in s since 1970, durations in s; a field without a value is missing. An empty
--   list may come as {}.
local DESCRIPTION = {
  'kind', 'host', 'pid', 'started', 'thread', 'label', 'fence', 'since', 'arrived', 'priority',
}

local function described(id, amount)
  local found = { id = id, amount = amount }
  local values = call('HMGET', key(KEY.request, id), unpack(DESCRIPTION))
  for i, value in ipairs(values) do
    if value and value ~= '' then found[DESCRIPTION[i]] = value end
  end
  return found
end

-- Return a moment in ms, as text, in s; and how many s ago it was, 0 for an unknown or a later one.
local function in_seconds(ms)
  if not ms then return nil, 0 end
  return tonumber(ms) / 1000, math.max(0, now - tonumber(ms)) / 1000
end

-- `expires_in`: ms until it expires; negative if it is held until its release.
local function holder(id, amount, expires_in)
  local found = described(id, amount)
  found.since, found.age_s = in_seconds(found.since)
  if expires_in >= 0 then found.ttl_left_s = expires_in / 1000 end
  return found
end

local function waiter(id, amount)
  local found = described(id, amount)
  found.since, found.waited_s = in_seconds(found.arrived)
  return found
end

local function holders_of(name)
  local holders = {}
  local alone = call('GET', head .. name)
  if alone then holders[1] = holder(alone, 1, call('PTTL', head .. name)) end
  local shares = call('ZRANGEBYSCORE', key(KEY.shares, name), '(' .. now, '+inf', 'WITHSCORES')
  for i = 1, #shares, 2 do
    local amount, id = string.match(shares[i], '^(%d+) (.+)$')
    local expires_in = shares[i + 1] == 'inf' and -1 or tonumber(shares[i + 1]) - now
    holders[#holders + 1] = holder(id, tonumber(amount), expires_in)
  end
  return holders
end

local function waiters_of(name)
  local waiters = {}
  for _, id in ipairs(call('ZRANGE', key(KEY.queue, name), 0, -1)) do
    local request = load(id)
    if request and request.state == 'waiting' then
      waiters[#waiters + 1] = waiter(id, want_for(request, name).amount)
    end
  end
  return waiters
end

local names, epoch = {}, epoch()
for i, name in ipairs(ARGV) do
  local capacity = capacity_of({ name = name, capacity = 0 })
  names[i] = {
    what = name, capacity = capacity > 0 and capacity or nil, epoch = epoch, holders = holders_of(name),
    waiters = waiters_of(name),
  }
end
return cjson.encode(names)
