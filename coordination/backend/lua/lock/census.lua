-- Count the locks.
-- KEYS: head
-- Returns: the number of held names, the number of waiting requests
local held, waiting = 0, {}
for _, name in ipairs(call('SMEMBERS', head .. KEY.names)) do
  if call('EXISTS', head .. name) == 1 or call('ZCOUNT', key(KEY.shares, name), '(' .. now, '+inf') > 0 then
    held = held + 1
  end
  for _, id in ipairs(call('ZRANGE', key(KEY.queue, name), 0, -1)) do
    if call('EXISTS', key(KEY.request, id)) == 1 then waiting[id] = true end
  end
end
local count = 0
for _ in pairs(waiting) do count = count + 1 end
return { held, count }
