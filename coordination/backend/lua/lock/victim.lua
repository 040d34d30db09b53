-- Break a deadlock, if it still exists: withdraw the victim's request and tell it the reason. Several
-- processes detect the same deadlock; the first one finds every link, the others find the victim gone.
-- KEYS: head    ARGV: the victim's request, its verdict, then for each link: waiting request, name, blocking
--   request
-- Returns: 1, or 0 if a link is gone.

local function is_ahead(queue, other, waiter)
  local its, own = call('ZRANK', queue, other.id), call('ZRANK', queue, waiter.id)
  return its and (own and its < own or not own and other.rank <= waiter.rank)
end

local function is_unchanged(waiter, name, other)
  if not waiter or waiter.state ~= 'waiting' or not want_for(waiter, name) then return false end
  if not other or not want_for(other, name) then return false end
  if other.state == 'held' then return holds(other, want_for(other, name)) end
  return is_ahead(key(KEY.queue, name), other, waiter)
end

local victim = load(ARGV[1])
if not victim or victim.state ~= 'waiting' then return 0 end
for i = 3, #ARGV, 3 do
  if not is_unchanged(load(ARGV[i]), ARGV[i + 1], load(ARGV[i + 2])) then return 0 end
end
local names = names_of(victim)
local host, pid, label = unpack(call('HMGET', key(KEY.request, victim.id), 'host', 'pid', 'label'))
announce('deadlock.found', names[1], 'title', first_line(label or ''), 'victim', victim.id,
  'host', host or '', 'pid', pid or '', 'locks', table.concat(names, '\n'), 'links', (#ARGV - 2) / 3)
withdraw(victim)
call('RPUSH', key(KEY.wake, victim.id), ARGV[2])
call('PEXPIRE', key(KEY.wake, victim.id), WAKE_MS)
return 1
