-- Append a piece to a todo's log. Of each attempt the head and the tail are kept; the entries between them
-- are deleted.
-- An entry has `at` and `end` (bytes of the attempt's output), `counted` (the attempt of these positions: a
-- piece of an older attempt counts with the newest), and in the tail `oldest`, the first entry of the tail,
-- or `.` for itself.
-- KEYS: the log
-- ARGV: attempt, bytes omitted before this piece, bytes of the head, bytes of the tail, file name of the
--   whole log, text
-- Returns: nothing
local log, text = KEYS[1], ARGV[6]
local attempt, skipped = tonumber(ARGV[1]), tonumber(ARGV[2])
local head_bytes, tail_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])

local function read(entry)
  local fields = { id = entry[1] }
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  return fields
end

local last = call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
last = last and read(last)
local counted = last and tonumber(last.counted or last.attempt)
local begins = not counted or attempt > counted
local at = (begins and 0 or tonumber(last['end'] or 0)) + skipped
local fields = {
  'attempt', ARGV[1], 'counted', begins and attempt or counted, 'at', at, 'end', at + #text, 'text', text,
}
if begins and ARGV[5] ~= '' then
  fields[#fields + 1] = 'file'
  fields[#fields + 1] = ARGV[5]
end

if at + #text > head_bytes then
  local oldest = not begins and last.oldest or '.'
  if oldest == '.' and not begins and last.oldest then oldest = last.id end
  while oldest ~= '.' do
    local entry = call('XRANGE', log, oldest, '+', 'COUNT', 1)[1]
    if not entry then
      oldest = '.'
    else
      local found = read(entry)
      oldest = found.id
      if at + #text - tonumber(found.at or 0) <= tail_bytes then break end
      call('XDEL', log, found.id)
    end
  end
  fields[#fields + 1] = 'oldest'
  fields[#fields + 1] = oldest
end
call('XADD', log, '*', unpack(fields))
