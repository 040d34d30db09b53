-- Read the wait-for graph of a request at one moment, for deadlock detection: from a request to the names
-- that it waits for, from a name to its holders and those ahead in its queue, from these to their owners and
-- the owners' other requests. Holders come first, then queues, nearest first; requests beyond the limit are
-- omitted.
-- An owner that holds nothing need not look. Requests ahead in a queue have a lower rank everywhere, so each
-- cycle contains one request that waits for a holder, and its owner looks.
-- KEYS: head    ARGV: request, maximum number of requests
-- Returns: nil (nothing to search), or JSON: {requests: [{id, state, kind, party, rank, priority, host, pid,
--   started, thread, label, wants: [{name, mode, amount, capacity}]}], names: [{name, alone: request or null,
--   shares: [[amount, request]], queue: [request, in order]}]}. An empty list may come as {}.
local most = tonumber(ARGV[2])
local PLACES_A_REQUEST = 20 -- places in queues that are read for each request of the limit
local WHO = { 'priority', 'host', 'pid', 'started', 'thread', 'label' }

local requests, names, by_name, parties = {}, {}, {}, {}
local holding, queueing, visited, texts = {}, {}, {}, {} -- the agendas; requests; their wants as text
local places = most * PLACES_A_REQUEST

local function note_party(party)
  if parties[party] then return end
  parties[party] = true
  for _, id in ipairs(call('SMEMBERS', key(KEY.party, party))) do holding[#holding + 1] = id end
end

local function read_name(name)
  local found = { name = name, alone = call('GET', head .. name) or nil, shares = {}, queue = {} }
  found.places = call('ZRANGE', key(KEY.queue, name), 0, -1, 'WITHSCORES')
  if found.alone then holding[#holding + 1] = found.alone end
  for i, share in ipairs(call('ZRANGEBYSCORE', key(KEY.shares, name), '(' .. now, '+inf')) do
    local amount, id = string.match(share, '^(%d+) (.+)$')
    found.shares[i] = { tonumber(amount), id }
    holding[#holding + 1] = id
  end
  names[#names + 1], by_name[name] = found, found
  return found
end

local function text_of(id)
  if texts[id] == nil then texts[id] = call('HGET', key(KEY.request, id), 'wants') end
  return texts[id]
end

-- Return whether a request that blocks `other` also blocks the want. Then `other` adds nothing to the graph,
-- and a long queue for one lock is not read.
local function adds_nothing(want, text)
  if string.find(text, '\n', 1, true) then return false end
  if want.mode == 'x' then return true end
  if want.mode == 's' then return string.sub(text, 1, 2) == 's ' end
  local amount = string.match(text, '^(%d+)/')
  return amount and tonumber(amount) <= want.amount
end

local function note_ahead(want, rank)
  local ahead = (by_name[want.name] or read_name(want.name)).places
  for i = 1, #ahead, 2 do
    if places == 0 or tonumber(ahead[i + 1]) > rank then return end
    places = places - 1
    local text = not visited[ahead[i]] and text_of(ahead[i])
    if text and not adds_nothing(want, text) then queueing[#queueing + 1] = ahead[i] end
  end
end

local function describe(request)
  local who = call('HMGET', key(KEY.request, request.id), unpack(WHO))
  for i, field in ipairs(WHO) do request[field] = who[i] or '' end
  for _, want in ipairs(request.wants) do want.capacity = capacity_of(want) end
end

local function visit(id)
  if visited[id] then return end
  visited[id] = true
  local request = load(id)
  if not request then return end
  requests[#requests + 1] = request
  describe(request)
  note_party(request.party)
  if request.state == 'waiting' then
    for _, want in ipairs(request.wants) do note_ahead(want, request.rank) end
  end
  request.rank = string.format('%.0f', request.rank or 0)
end

local function holds_something(party)
  for _, id in ipairs(call('SMEMBERS', key(KEY.party, party))) do
    if call('HGET', key(KEY.request, id), 'state') == 'held' then return true end
  end
  return false
end

local waiter = load(ARGV[1])
if not waiter or waiter.state ~= 'waiting' or not holds_something(waiter.party) then return nil end
holding[1] = ARGV[1]
local next_holding, next_queueing = 1, 1
while #requests < most do
  if holding[next_holding] then
    visit(holding[next_holding])
    next_holding = next_holding + 1
  elseif queueing[next_queueing] then
    visit(queueing[next_queueing])
    next_queueing = next_queueing + 1
  else
    break
  end
end
for _, found in ipairs(names) do
  for i = 1, #found.places, 2 do
    if visited[found.places[i]] then found.queue[#found.queue + 1] = found.places[i] end
  end
  found.places = nil
end
return cjson.encode({ requests = requests, names = names })
