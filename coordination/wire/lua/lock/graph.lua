-- Everything that the request waits for, and what that waits for, and so on: read at one moment, for whoever looks for a deadlock.
-- From a request to the names that it waits for, from a name to those who hold it and those ahead in its queue, from these to
-- their parties, and to what else those hold and wait for. Nearest first; what lies beyond the limit is left out.
-- A party that holds nothing needs not look. Those ahead in a queue have a lower rank, everywhere the same: a circle has at least
-- one who waits for a holder, and that one looks.
-- KEYS: head    ARGV: request, how many requests at most
-- Returns: nil (nothing to look for), or JSON: {requests: [{id, state, kind, party, rank, priority, arrived, host, pid, started,
--   thread, label, wants: [{name, mode, amount, capacity}]}], names: [{name, alone: request or null, shares: [[amount, request]],
--   queue: [request, in order]}]}. An empty list may come as {}.
head = KEYS[1]
local most = tonumber(ARGV[2])
local WHO = { 'priority', 'host', 'pid', 'started', 'thread', 'label' }

local requests, names, by_name, parties, agenda, noted = {}, {}, {}, {}, {}, {}

local function note(id)
  if not noted[id] then
    noted[id] = true
    agenda[#agenda + 1] = id
  end
end

local function note_party(party)
  if parties[party] then return end
  parties[party] = true
  for _, id in ipairs(call('SMEMBERS', key(KEY.party, party))) do note(id) end
end

local function read_name(name)
  local found = { name = name, alone = call('GET', head .. name) or nil, shares = {}, queue = {} }
  found.waiting, found.read = call('ZRANGE', key(KEY.queue, name), 0, -1, 'WITHSCORES'), 0
  if found.alone then note(found.alone) end
  for i, share in ipairs(call('ZRANGEBYSCORE', key(KEY.shares, name), '(' .. now, '+inf')) do
    local amount, id = string.match(share, '^(%d+) (.+)$')
    found.shares[i] = { tonumber(amount), id }
    note(id)
  end
  names[#names + 1], by_name[name] = found, found
  return found
end

-- Those in the queue up to the rank.
local function note_ahead(found, rank)
  while found.waiting[found.read * 2 + 1] and tonumber(found.waiting[found.read * 2 + 2]) <= rank do
    local id = found.waiting[found.read * 2 + 1]
    found.read = found.read + 1
    found.queue[found.read] = id
    note(id)
  end
end

local function describe(request)
  local who = call('HMGET', key(KEY.request, request.id), unpack(WHO))
  for i, field in ipairs(WHO) do request[field] = who[i] or '' end
  for _, want in ipairs(request.wants) do want.capacity = capacity_of(want) end
end

local function visit(id)
  local request = load(id)
  if not request then return end
  requests[#requests + 1] = request
  describe(request)
  note_party(request.party)
  if request.state == 'waiting' then
    for _, want in ipairs(request.wants) do note_ahead(by_name[want.name] or read_name(want.name), request.rank) end
  end
  request.rank = string.format('%.0f', request.rank or 0)
end

local function holds_something(party)
  for _, id in ipairs(call('SMEMBERS', key(KEY.party, party))) do
    if call('HGET', key(KEY.request, id), 'state') == 'held' then return true end
  end
  return false
end

local looking = load(ARGV[1])
if not looking or looking.state ~= 'waiting' or not holds_something(looking.party) then return nil end
note(ARGV[1])
local next_one = 1
while agenda[next_one] and #requests < most do
  visit(agenda[next_one])
  next_one = next_one + 1
end
for _, found in ipairs(names) do found.waiting, found.read = nil, nil end
return cjson.encode({ requests = requests, names = names })
