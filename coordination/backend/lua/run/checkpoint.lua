-- Keep the output that a running todo, or its compensation, has written so far, for its next attempt.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, fence, JSON
-- Returns: `kept`, or `stale` (another attempt holds it).
local todo, fence, json = unpack(ARGV, 2, 4)
if not held_by(todo, fence) then return reply('stale') end
if fact(todo, 'undo') then -- a compensation has a record of its own, apart from that of the todo
  call('HSET', checkpoint, todo .. ' undo', json)
else
  keep_output(todo, json)
end
return reply('kept')
