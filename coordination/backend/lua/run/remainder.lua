-- Do the next piece of work on all todos of a large run: see _run_remainder.lua. A second call changes
-- nothing.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, number of the piece
-- Returns: `done`, or `past` if that piece is not the next.
if call('HGET', meta, 'piece') ~= ARGV[2] then return reply('past') end
local ending, doomed = unpack(call('HMGET', meta, 'ending', 'doomed'))
if ending then
  end_some()
  if call('HGET', meta, 'status') == 'rolling_back' then
    begin_undoing_when_quiet()
    return reply('done')
  end
elseif doomed then
  skip_some()
  dispatch_ready() -- the end of a wave tolerates failures
else
  open_some()
  dispatch_ready()
end
finish_if_done()
return reply('done')
