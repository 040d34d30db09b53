-- Order and dispatch of ready todos.
--
-- A todo's turn is the time when it became ready, less AGEING times its longest remaining path (`order`, in
-- ms; planner/graph.py). A smaller turn is more urgent: the longest path goes first, and no todo waits for
-- ever behind later ones.

local BEGINNING_MS = 1735689600000 -- small numbers leave room for the fraction that breaks ties
local FIRST = -1e12 -- the turn of a todo that has its needs, because it keeps them from others

local function delivery(todo)
  local p = place_of(todo)
  local host, size = unpack(call('HMGET', meta, 'host.' .. p.repo, 'size.' .. p.level))
  local attempt, index, undoing = facts_of(todo, 'attempt', 'index', 'undo')
  if undoing then size = '0' end -- no level waits for it
  return { todo, attempt, p.repo, host or '', p.level, index or '0', size or '0' }
end

-- A run executes the todos of one lane, which is their repository, one at a time. `occupant` names the todo
-- that the lane is reserved for; until that one is dispatched, a more urgent one can replace it. The others
-- are in `queued`.
local function turn_of(todo, p) return tonumber(fact(todo, 'turn') or p.order) end
local function queue_key(p, todo)
  return string.format('%s|%020.5f|%s', p.lane, turn_of(todo, p) - FIRST, todo)
end

local function keep_for(p, todo, turn)
  call('HSET', occupant, p.lane, todo)
  call('ZADD', ready, turn, todo)
end

local function queue_up(todo, p)
  move(todo, 'ready')
  local turn = string.format('%.5f', now - BEGINNING_MS + p.order)
  note(todo, 'turn', turn)
  local first = call('HGET', occupant, p.lane)
  local its_turn = first and call('ZSCORE', ready, first)
  if not first then
    keep_for(p, todo, turn)
  elseif its_turn and tonumber(turn) < tonumber(its_turn) then
    call('ZREM', ready, first)
    call('ZADD', queued, 0, queue_key(p, first))
    keep_for(p, todo, turn)
  else
    call('ZADD', queued, 0, queue_key(p, todo))
  end
end

local shape = {} -- how todos are opened: _shape.lua

-- Park a todo that waits for something outside of the run: a host, a person, a resource.
local function park_outside(todo, reason, words)
  wait_for(todo, reason, words)
  move(todo, 'parked')
  shape.leave_levels(todo, words)
end

-- Wait for a person, without holding anything. The fact `gate` says what happens if nobody decides: `timeout
-- in ms, verdict`.
local function wait_for_person(todo, words, gate, reason)
  local timeout_ms = tonumber(gate and string.match(gate, '^%d+') or '0')
  if timeout_ms > 0 then call('ZADD', timers, now + timeout_ms, member(todo)) end
  park_outside(todo, reason or 'person', words)
end

local function enqueue(todo)
  local p = place_of(todo)
  local gate, approved, undoing = facts_of(todo, 'gate', 'approved_by', 'undo')
  if undoing then return queue_up(todo, p) end
  if p.kind == 'manual' and p.repo ~= MILESTONE_REPO then
    return wait_for_person(todo, 'a person: coord todo complete ' .. todo, gate)
  end
  if gate and not approved then
    local soak = fact(todo, 'soak')
    local words = soak and 'the end of its soak; to end it now' or 'an approval'
    words = words .. ': coord approve ' .. todo
    return wait_for_person(todo, words, gate, soak and 'timer')
  end
  queue_up(todo, p)
end

-- Return whether a parked todo waits only for a person.
local function waits_for_person(todo)
  if state_of(todo) ~= 'parked' then return false end
  local gate, approved, undoing, question = facts_of(todo, 'gate', 'approved_by', 'undo', 'question')
  return not undoing and (question or place_of(todo).kind == 'manual' or (gate and not approved))
end

local function release_repo(p, todo)
  if call('HGET', occupant, p.lane) ~= todo then return end
  local following = call('ZRANGEBYLEX', queued, '[' .. p.lane .. '|', '(' .. p.lane .. '}', 'LIMIT', 0, 1)[1]
  if not following then return call('HDEL', occupant, p.lane) end
  call('ZREM', queued, following)
  local next_todo = string.match(following, '^[^|]*|[^|]*|(.*)$')
  keep_for(p, next_todo, turn_of(next_todo, p))
end

-- Put the todo's message into its queue within this step, so that no crash can lose it. `served` and `posted`
-- tell workers which of their queues to read first (queue/fetch.lua). The caller sends the message if no
-- worker has left an envelope yet (key `envelope`), or if the message belongs to a chord, which it must name.
local function post(todo, attempt, repo, host, size)
  local prefix, envelope, names = unpack(call('HMGET', head .. KEY.envelope, 'queue', 'message', 'words'))
  if not envelope or size ~= '0' or string.find(host, '["\\%c]') then return false end
  local place = host == '' and repo or repo .. '@' .. host
  local word = {
    RUN = run, TODO = todo, ATTEMPT = attempt, REPO = repo, PLACE = place,
    TAG = string.format('%s %s %s %.0f', run, todo, attempt, now_us),
  }
  local words = {}
  for name in string.gmatch(names, '%u+') do words[#words + 1] = word[name] end
  -- fails if the key has another type
  redis.pcall('LPUSH', prefix .. place, string.format(envelope, unpack(words)))
  call('ZADD', posted, fact(todo, 'turn') or 0, prefix .. place)
  call('ZADD', head .. KEY.served, 'NX', 0, run)
  return true
end

local function send(todo)
  local d = delivery(todo)
  if not post(todo, d[2], d[3], d[4], d[7]) then sends[#sends + 1] = d end
end

-- Dispatch the todos that may start. The first message of a todo of an opened level was sent with its chord;
-- only one whose message was delivered too early needs another.
local function dispatch_ready()
  local values = call('HMGET', meta, 'status', 'max_parallel', 'active', 'level')
  local status, max_parallel, active, level = unpack(values)
  if not goes_on(status) then return end
  local room = tonumber(max_parallel) - tonumber(active)
  while room > 0 or max_parallel == '0' do
    local todo = call('ZPOPMIN', ready)[1]
    if not todo then return end
    clear_wait(todo)
    move(todo, 'dispatched')
    call('HINCRBY', meta, 'active', 1)
    call('ZADD', sent, now, todo)
    local has_none = tonumber(place_of(todo).level) > tonumber(level) or status == 'rolling_back'
    if call('SREM', unsent, todo) == 1 or has_none then send(todo) end
    room = room - 1
  end
end
