-- Takes from its holders what they hold, all of each request: their next renewal says that it is lost. Noted with who did it.
-- Of the requests only those that hold the name still; a todo's is left to its run.
-- KEYS: head    ARGV: name, who does it, then the requests
-- Returns: how many were released
local KEPT = 1000
local NOTED = { 'host', 'pid', 'started', 'thread', 'label', 'fence', 'since' }
local name, actor = ARGV[1], ARGV[2]

local function note(request)
  local words = { 'name', name, 'by', actor, 'id', request.id }
  for i, value in ipairs(call('HMGET', key(KEY.request, request.id), unpack(NOTED))) do
    words[#words + 1] = NOTED[i]
    words[#words + 1] = value or ''
  end
  call('XADD', head .. KEY.released, 'MAXLEN', '~', KEPT, '*', unpack(words))
end

local released = 0
for i = 3, #ARGV do
  local request = load(ARGV[i])
  local want = request and request.state == 'held' and request.kind ~= 'todo' and want_for(request, name)
  if want and holds(request, want) then
    note(request)
    let_loose(request)
    released = released + 1
  end
end
return released
