-- What was dispatched at least `age` ago and claimed by nobody: its message may be lost. A copy that was not lost is refused at claim.
-- ARGV: run, age in ms, how many at most
-- Returns: `sent` and the deliveries.
local overdue = call('ZRANGEBYSCORE', sent, '-inf', now - ARGV[2], 'LIMIT', 0, ARGV[3])
for _, todo in ipairs(overdue) do
  call('ZADD', sent, now, todo)
  sends[#sends + 1] = delivery(todo)
end
return reply('sent')
