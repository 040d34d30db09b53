-- Write the events of an edit of a file, which a worker took from the journal of its machine, once: a second
-- worker of the same file, or a second try, changes nothing.
-- KEYS: head    ARGV: source, number of the edit in the journal, then for each event: kind, subject, actor,
--   repos, title, and the whole event as JSON
-- Returns: the number of events that were written
local source, number = ARGV[1], tonumber(ARGV[2])
local positions = head .. KEY.event_positions
if number <= (tonumber(call('HGET', positions, source)) or 0) then return 0 end
for i = 3, #ARGV, 6 do
  local kind, subject, actor, repos, title, whole = unpack(ARGV, i, i + 5)
  announce(kind, subject, 'actor', actor, 'repos', repos, 'title', first_line(title), 'event', whole)
end
call('HSET', positions, source, number)
return (#ARGV - 2) / 6
