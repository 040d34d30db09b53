-- Grant all wants of a request, or queue it. A repeated call renews its place or its grant.
-- KEYS: head
-- ARGV: request, wants, ttl in ms, priority, how long its place in the queue lasts in ms (0: it does not
--   wait), rank (empty: none yet), owner, then field and value of the owner's description
-- Returns: a text, which a client parses in half the time of a list: `held <fence> <epoch>`, `waiting <rank>
--   <ms until it should ask again; -1: when notified>`, `taken`, or `impossible <capacity; 0: no such
--   resource>`, then the blocking names, one on each line

-- The fast path for most locks: nobody holds, shares, waits for or guards the name. It needs half the
-- commands.
local function grant_at_once()
  local id, text, ttl, _, _, rank, party = unpack(ARGV, 1, 7)
  local name = rank == '' and ttl ~= '0' and string.match(text, '^x ([^\n]+)$')
  if not name then return nil end
  local lock, record = head .. name, head .. KEY.request .. id
  local others = { head .. KEY.shares .. name, head .. KEY.queue .. name, head .. KEY.guard .. name }
  if call('EXISTS', lock, record, unpack(others)) > 0 then return nil end
  local last, epoch = unpack(call('MGET', head .. KEY.fence, head .. KEY.epoch))
  -- the first lock of all, or damaged data
  if not (epoch and last and string.find(epoch .. last, '^%d+$')) then return nil end
  if tonumber(last) >= 9007199254740991 or #epoch > 18 then return nil end

  local fence = string.format('%.0f', math.max((tonumber(last) or 0) + 1, now_us))
  call('HSET', record, 'state', 'held', 'wants', text, 'ttl', ttl, 'fence', fence, 'since', now,
    'party', party, unpack(ARGV, 8))
  call('PEXPIRE', record, ttl)
  call('SADD', head .. KEY.party .. party, id)
  call('SADD', head .. KEY.parties, party)
  call('SADD', head .. KEY.names, name)
  call('SET', head .. KEY.fence, fence)
  announce_name('granted', name, id)
  call('SET', lock, id, 'NX', 'PX', ttl) -- last: a user who is denied one of these commands holds nothing
  return string.format('held %s %s', fence, epoch)
end

local granted = grant_at_once()
if granted then return granted end
local id, text, ttl, priority, place_ms, rank, party = unpack(ARGV, 1, 7)
local record = key(KEY.request, id)
local known = load(id)
if known and known.state == 'held' then
  if prolong(known) then return string.format('held %s %s', known.fence, epoch()) end
  release_grants(known)
  known = nil
end

local request = known or { id = id, wants = wants_of(text), ttl = tonumber(ttl), arrived = now }
for _, want in ipairs(request.wants) do
  if want.mode ~= 'x' and want.mode ~= 's' and want.amount > capacity_of(want) then
    return string.format('impossible %.0f\n%s', capacity_of(want), want.name)
  end
end
request.rank = request.rank or tonumber(rank) or now_us - priority * PRIORITY_STEP_US
-- with a rank it asked before, and its entries in queues outlast its record
request.joins, request.waited = place_ms ~= '0', known ~= nil or rank ~= ''
local names = blocking_names(request)
if #names > 0 and not request.joins then return 'taken\n' .. table.concat(names, '\n') end
if not known then
  call('HSET', record, 'state', 'waiting', 'wants', text, 'rank', string.format('%.0f', request.rank),
    'ttl', ttl, 'arrived', now, 'priority', priority, 'party', party, unpack(ARGV, 8))
  record_owner(id, party)
  if #names > 0 then announce_names('waiting', request) end
  local wake = key(KEY.wake, id)
  local notification = rank ~= '' and call('LINDEX', wake, 0)
  -- a notification of a grant that expired before it was read
  if notification and string.sub(notification, 1, 5) == 'held ' then call('DEL', wake) end
end
if #names == 0 then
  local fence = grant(request, request.ttl)
  -- while it waited it blocked others at names of which it may have left some capacity
  if request.waited then offer_names(names_of(request)) end
  return string.format('held %s %s', fence, epoch())
end
call('PEXPIRE', record, place_ms)
local wait_ms = next_expiry(names) or -1
return string.format('waiting %.0f %.0f\n%s', request.rank, wait_ms, table.concat(names, '\n'))
