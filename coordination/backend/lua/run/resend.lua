-- What was dispatched at least `age` ago and claimed by nobody: its message may be lost. A copy that was not lost is refused at claim.
-- ARGV: run, age in ms, how many at most
-- Returns: `sent` and the deliveries.
local overdue = call('ZRANGEBYSCORE', sent, '-inf', now - ARGV[2], 'LIMIT', 0, ARGV[3])
if #overdue == 0 then -- before the clock was set back
  overdue = call('ZRANGEBYSCORE', sent, '(' .. string.format('%.0f', now), '+inf', 'LIMIT', 0, ARGV[3])
end
for _, todo in ipairs(overdue) do
  call('ZADD', sent, now, todo)
  sends[#sends + 1] = delivery(todo)
end
if #overdue > 0 and call('HGET', meta, 'strategy') == 'levels' then
  -- What was lost with its level's chord was not lost alone: those whose turn comes later must not wait for a look each.
  for _, todo in ipairs(call('ZRANGE', ready, 0, -1)) do call('SADD', owed, todo) end
  for _, place in ipairs(call('ZRANGE', queued, 0, -1)) do call('SADD', owed, (string.match(place, '^[^|]*|[^|]*|(.*)$'))) end
end
return reply('sent')
