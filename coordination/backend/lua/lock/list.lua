-- List holders and waiters of names, all at one moment.
-- KEYS: head    ARGV: names
-- Returns: JSON {epoch, names: [{name, capacity, holders, waiters}]}, each of these [{id, kind, host, pid,
--   started, thread, label, amount, …}]; of a holder also fence, since, expires_in (ms; -1: when released),
--   of a waiter arrived and priority. Times in ms by `now`. An empty list may come as {}.
local DESCRIPTION = {
  'kind', 'host', 'pid', 'started', 'thread', 'label', 'fence', 'since', 'arrived', 'priority',
}

local function described(id, amount, expires_in)
  local found = { id = id, amount = amount, expires_in = expires_in }
  local values = call('HMGET', key(KEY.request, id), unpack(DESCRIPTION))
  for i, value in ipairs(values) do found[DESCRIPTION[i]] = value or '' end
  return found
end

local function holders_of(name)
  local holders = {}
  local alone = call('GET', head .. name)
  if alone then holders[1] = described(alone, 1, call('PTTL', head .. name)) end
  local shares = call('ZRANGEBYSCORE', key(KEY.shares, name), '(' .. now, '+inf', 'WITHSCORES')
  for i = 1, #shares, 2 do
    local amount, id = string.match(shares[i], '^(%d+) (.+)$')
    local expires_in = shares[i + 1] == 'inf' and -1 or tonumber(shares[i + 1]) - now
    holders[#holders + 1] = described(id, tonumber(amount), expires_in)
  end
  return holders
end

local function waiters_of(name)
  local waiters = {}
  for _, id in ipairs(call('ZRANGE', key(KEY.queue, name), 0, -1)) do
    local request = load(id)
    if request and request.state == 'waiting' then
      waiters[#waiters + 1] = described(id, want_for(request, name).amount)
    end
  end
  return waiters
end

local names = {}
for i, name in ipairs(ARGV) do
  names[i] = { name = name, capacity = capacity_of({ name = name, capacity = 0 }), holders = holders_of(name),
    waiters = waiters_of(name) }
end
return cjson.encode({ epoch = epoch(), now = now, names = names })
