-- Open the level after `level`, if that one has settled. Repeated calls open it once.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, level, source (join|reaper)
-- Returns: `advanced` (…, the new level's deliveries), or `early` / `past`, which change nothing.
local level, source = ARGV[2], ARGV[3]
local current, strategy, status = unpack(call('HMGET', meta, 'level', 'strategy', 'status'))
if strategy ~= 'levels' or level ~= current or status == 'rolling_back' then return reply('past') end
if call('HGET', opened, level) ~= '0' then return reply('early') end
-- todos of the next level may be among those that are still to end
if call('HEXISTS', meta, 'piece') == 1 then return reply('early') end
if call('HGET', meta, 'advanced.' .. level) then return reply('past') end
call('HSET', meta, 'advanced.' .. level, source)
emit_of_run('level.settled', nil, 'level', level, 'source', source)
local header = shape.open_next_level()
finish_if_done()
return reply('advanced', header)
