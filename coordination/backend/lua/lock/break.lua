-- Release a name by force: all grants of each request that holds it, whose next renewal reports the loss. The
-- release is logged with its actor. Requests that no longer hold the name are left alone, and so are those of
-- todos, which belong to their run.
-- KEYS: head    ARGV: name, actor, requests
-- Returns: the number of released requests
local KEPT = 1000
local RECORDED = { 'host', 'pid', 'started', 'thread', 'label', 'fence', 'since' }
local name, actor = ARGV[1], ARGV[2]

local function record_release(request)
  local fields = {}
  for i, value in ipairs(call('HMGET', key(KEY.request, request.id), unpack(RECORDED))) do
    fields[#fields + 1] = RECORDED[i]
    fields[#fields + 1] = value or ''
  end
  call('XADD', head .. KEY.released, 'MAXLEN', '~', KEPT, '*', 'name', name, 'by', actor, 'id', request.id,
    unpack(fields))
  announce('lock.forced', name, 'actor', actor, unpack(fields))
end

local released = 0
for i = 3, #ARGV do
  local request = load(ARGV[i])
  local want = request and request.state == 'held' and request.kind ~= 'todo' and want_for(request, name)
  if want and holds(request, want) then
    record_release(request)
    release_grants(request)
    released = released + 1
  end
end
return released
