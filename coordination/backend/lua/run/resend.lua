-- Send again the messages of todos that were dispatched at least `age` ago and not claimed: they may be lost.
-- The claim refuses a second copy.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, age in ms, maximum number
-- Returns: `sent` and the deliveries.
local overdue = call('ZRANGEBYSCORE', sent, '-inf', now - ARGV[2], 'LIMIT', 0, ARGV[3])
if #overdue == 0 then -- dispatched before the clock was set back
  overdue = call('ZRANGEBYSCORE', sent, '(' .. string.format('%.0f', now), '+inf', 'LIMIT', 0, ARGV[3])
end
for _, todo in ipairs(overdue) do
  call('ZADD', sent, now, todo)
  sends[#sends + 1] = delivery(todo)
end
if #overdue > 0 and call('HGET', meta, 'level') ~= '-1' then
  -- The other messages of a lost chord are lost too: later todos need not wait for a check each.
  for _, todo in ipairs(call('ZRANGE', ready, 0, -1)) do call('SADD', unsent, todo) end
  for _, place in ipairs(call('ZRANGE', queued, 0, -1)) do
    call('SADD', unsent, (string.match(place, '^[^|]*|[^|]*|(.*)$')))
  end
end
return reply('sent')
