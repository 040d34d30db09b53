-- Report once that a run is stuck, which is an error in coord.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, why, where its state was written, or why it was not
-- Returns: `told` or `known`.
local why, where = unpack(ARGV, 2, 3)
if call('EXISTS', meta) == 0 or call('HSETNX', meta, 'stuck', why .. '; ' .. where) == 0 then
  return reply('known')
end
count('runs_stuck')
emit_of_run('run.stuck', nil, 'why', why, 'where', where)
return reply('told')
