-- Delete expired requests from their owners: Redis deleted the requests, and nobody released them.
-- KEYS: head    ARGV: owners
-- Returns: the number of owners without requests
local gone = 0
for _, party in ipairs(ARGV) do
  for _, id in ipairs(call('SMEMBERS', key(KEY.party, party))) do
    if call('EXISTS', key(KEY.request, id)) == 0 then call('SREM', key(KEY.party, party), id) end
  end
  if call('EXISTS', key(KEY.party, party)) == 0 then
    gone = gone + call('SREM', head .. KEY.parties, party)
  end
end
return gone
