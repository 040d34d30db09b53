-- Release the grants of a request and offer them to the next.
-- KEYS: head    ARGV: request, its owner
-- Returns: 1, or 0 if they were lost before. A repeated release counts as one.

-- The fast path for most locks, as in acquire.lua: nobody waits. The sweeper deletes an owner without locks.
local function release_at_once()
  local id, party = ARGV[1], ARGV[2]
  local record = head .. KEY.request .. id
  local name = string.match(call('HGET', record, 'wants') or '', '^x ([^\n]+)$')
  if not name or call('GET', head .. name) ~= id then return false end
  if call('EXISTS', head .. KEY.shares .. name, head .. KEY.queue .. name) > 0 then return false end

  call('DEL', head .. name, record)
  call('SREM', head .. KEY.party .. party, id)
  call('SREM', head .. KEY.names, name)
  call('SET', head .. KEY.done .. party, id, 'PX', DONE_MS)
  announce_name('released', name, id)
  return true
end

if release_at_once() then return 1 end
local request = load(ARGV[1])
local done = key(KEY.done, ARGV[2])
if not request or request.state ~= 'held' then return call('GET', done) == ARGV[1] and 1 or 0 end
if not release_grants(request) then return 0 end
call('SET', done, ARGV[1], 'PX', DONE_MS)
return 1
