-- Prolongs what the request holds by its ttl, if it still holds all of it.
-- KEYS: head    ARGV: request
-- Returns: 1, or 0 where it is lost.
head = KEYS[1]
local request = load(ARGV[1])
if not request or request.state ~= 'held' then return 0 end
for _, want in ipairs(request.wants) do
  if not holds(request, want) then return 0 end
end
for _, want in ipairs(request.wants) do
  if want.mode == 'x' then
    call('PEXPIRE', head .. want.name, request.ttl)
  else
    call('ZADD', shares_of(want), 'XX', now + request.ttl, share_of(want, request.id))
  end
end
call('PEXPIRE', key(KEY.request, request.id), request.ttl)
return 1
