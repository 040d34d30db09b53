-- Grants the request everything that it wants, or lets it wait. Asked again, it renews its place, or what it holds by now.
-- KEYS: head
-- ARGV: request, wants, ttl in ms, priority, how long its place in the queue is kept in ms (0: it does not wait), rank (empty: it
--   has none yet), party, then field and value of the owner's description
-- Returns: {`held`, fence, epoch}, {`waiting`, rank, in how many ms to ask again (-1: when told), names in its way},
--   {`taken`, names in its way}, or {`impossible`, name, capacity} (0: no such resource)
head = KEYS[1]
local id, text, ttl, priority, place_ms, rank, party = unpack(ARGV, 1, 7)
local record = key(KEY.request, id)
local known = load(id)
if known and known.state == 'held' then
  if prolong(known) then return { 'held', known.fence, epoch() } end
  let_loose(known)
  known = nil
end

local request = known or { id = id, wants = wants_of(text), ttl = tonumber(ttl), arrived = now }
for _, want in ipairs(request.wants) do
  if want.mode ~= 'x' and want.mode ~= 's' and want.amount > capacity_of(want) then
    return { 'impossible', want.name, capacity_of(want) }
  end
end
request.rank = request.rank or tonumber(rank) or now_us - priority * PRIORITY_STEP_US
request.joins, request.waited = place_ms ~= '0', known ~= nil
local names = taken(request)
if #names > 0 and not request.joins then
  return { 'taken', names }
end
if not known then
  call('HSET', record, 'state', 'waiting', 'wants', text, 'rank', string.format('%.0f', request.rank), 'ttl', ttl,
    'arrived', now, 'priority', priority, 'party', party, unpack(ARGV, 8))
  enrol(id, party)
end
if #names == 0 then
  local fence = grant(request, request.ttl)
  if request.waited then hand_over(names_of(request)) end -- it kept others waiting for what it may have left something of
  return { 'held', fence, epoch() }
end
call('PEXPIRE', record, place_ms)
return { 'waiting', string.format('%.0f', request.rank), next_expiry(names) or -1, names }
