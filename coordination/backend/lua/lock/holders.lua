-- List the holders that block a request.
-- KEYS: head    ARGV: wants
-- Returns: for each holder {name, host, pid, label, ms until it expires (-1: never)}
local holders = {}
local function add(name, id, expires_in)
  local host, pid, label = unpack(call('HMGET', key(KEY.request, id), 'host', 'pid', 'label'))
  holders[#holders + 1] = { name, host or '', pid or '', label or '', expires_in }
end
for _, want in ipairs(wants_of(ARGV[1])) do
  local holder = call('GET', head .. want.name)
  if holder then add(want.name, holder, call('PTTL', head .. want.name)) end
  local shares = call('ZRANGE', shares_of(want), 0, -1, 'WITHSCORES')
  for i = 1, #shares, 2 do
    local expires_in = shares[i + 1] == 'inf' and -1 or tonumber(shares[i + 1]) - now
    add(want.name, string.match(shares[i], ' (.*)$'), expires_in)
  end
end
return holders
