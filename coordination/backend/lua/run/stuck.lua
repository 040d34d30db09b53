-- Find todos of a live run that nothing will ever move. No step should leave one: a todo that has not ended
-- has a lease, a message, a place in a queue or a timer, or waits for another todo, a host or a person. A
-- todo found here is an error in coord.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run
-- Returns: `goes on` or `over`; or `stuck` (…, {sentences, in the order of the todos' names}).
local status = call('HGET', meta, 'status')
if not goes_on(status) and status ~= 'paused' then return reply('over') end
-- the maintenance leader is still working on it
if call('HEXISTS', meta, 'piece') == 1 then return reply('goes on') end

local states, all = {}, call('HGETALL', state)
for i = 1, #all, 2 do states[all[i]] = all[i + 1] end

local function is_open(todo) return todo and states[todo] and not ENDED[states[todo]] end
local function has_timer(todo) return call('ZSCORE', timers, member(todo)) end

-- Behind the todo that its repository is reserved for, or the next there.
local function place_in_line(todo, p)
  if call('ZSCORE', ready, todo) then return 'next' end
  if not call('ZSCORE', queued, queue_key(p, todo)) then return nil end
  local first = call('HGET', occupant, p.lane)
  return first ~= todo and is_open(first) and 'behind' or nil
end

-- A release of its needs will notify it.
local function is_queued_for_what_it_needs(todo)
  local request = load(member(todo))
  if not request or request.state ~= 'waiting' then return false end
  for _, name in ipairs(names_of(request)) do
    if call('ZSCORE', key(KEY.queue, name), request.id) then return true end
  end
  return false
end

local parents_of -- built on first use

local function waits_for_another(todo)
  if not parents_of then
    parents_of = {}
    for parent in pairs(states) do
      for child in string.gmatch(call('HGET', children, parent) or '', '%S+') do
        parents_of[child] = parents_of[child] or {}
        table.insert(parents_of[child], parent)
      end
    end
  end
  for _, parent in ipairs(parents_of[todo] or {}) do
    if is_open(parent) then return true end
  end
  return false
end

-- Under `levels`: whether the previous level is still running, or has settled and the next one is not open
-- yet.
local function waits_for_its_level(p)
  local level = call('HGET', meta, 'level')
  if tonumber(p.level) <= tonumber(level) then return false end
  local left = call('HGET', opened, level)
  local settled_at, advanced = unpack(call('HMGET', meta, 'level_settled_at', 'advanced.' .. level))
  if left == '0' then return settled_at and not advanced end
  for todo in string.gmatch(call('HGET', levels, level) or '', '%S+') do
    if is_open(todo) then return true end
  end
  return false
end

local at_work = 0

local moved_by = {
  running = function(todo)
    at_work = at_work + 1
    return call('ZSCORE', leases, member(todo)), 'runs without a lease'
  end,
  dispatched = function(todo)
    at_work = at_work + 1
    return call('ZSCORE', sent, todo), 'was dispatched, and its message is not kept in mind'
  end,
  retrying = function(todo) return has_timer(todo), 'is to be tried again, and has no timer' end,
  ready = function(todo, p) return place_in_line(todo, p), 'is ready, and stands in no queue' end,
  parked = function(todo, p)
    if waits_for_person(todo) then
      if fact(todo, 'question') then return true end
      local timeout = string.match(fact(todo, 'gate') or '0', '^%d+')
      return timeout == '0' or has_timer(todo), 'waits for a person, and its timeout has no timer'
    end
    local moved = has_timer(todo) or call('HGET', stranded, p.lane) == todo or place_in_line(todo, p)
      or is_queued_for_what_it_needs(todo)
    return moved, 'is parked, and nobody will tell it to go on'
  end,
  waiting = function(todo, p)
    if shape.is_by_level() then
      return waits_for_its_level(p), 'waits for a level that nobody will open'
    end
    return waits_for_another(todo), 'waits, and all before it has ended'
  end,
}

-- In a rollback, when nothing runs any more: a todo that was begun is sent when all its dependents are
-- undone.
local function is_to_be_undone(todo, at)
  if status ~= 'rolling_back' or not call('HGET', meta, 'intents') then return false end
  if at == 'compensated' or at == 'compensation_failed' then
    return false
  end
  return call('HGET', behind, todo) == '0' and fact(todo, 'intent') and not fact(todo, 'undo')
end

local found, open, names = {}, 0, {}
for todo in pairs(states) do names[#names + 1] = todo end
table.sort(names)
for _, todo in ipairs(names) do
  local at = states[todo]
  if moved_by[at] then
    open = open + 1
    local moved, words = moved_by[at](todo, place_of(todo))
    if not moved then found[#found + 1] = todo .. ' ' .. words end
  elseif is_to_be_undone(todo, at) then
    found[#found + 1] = todo .. ' is to be undone, and was not sent'
  end
end
if open == 0 then found[#found + 1] = 'all its todos have ended, and it has not' end
if goes_on(status) and at_work == 0 and call('ZCARD', ready) > 0 then
  found[#found + 1] = call('ZRANGE', ready, 0, 0)[1] .. ' is next, nothing is at work, and nobody starts it'
end
if #found == 0 then return reply('goes on') end
return reply('stuck', found)
