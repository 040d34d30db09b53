-- Forgets of owners the requests that Redis has forgotten: they expired, and nobody was there to release them.
-- KEYS: head    ARGV: parties
-- Returns: how many owners have nothing any more
local gone = 0
for _, party in ipairs(ARGV) do
  for _, id in ipairs(call('SMEMBERS', key(KEY.party, party))) do
    if call('EXISTS', key(KEY.request, id)) == 0 then call('SREM', key(KEY.party, party), id) end
  end
  if call('EXISTS', key(KEY.party, party)) == 0 then gone = gone + call('SREM', head .. KEY.parties, party) end
end
return gone
