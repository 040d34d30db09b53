-- What the steps of a run share. Every step runs whole or not at all, and is one move of the state machine of
-- runs/__init__.py.
-- KEYS: Keys.step() in backend/keys.py.   ARGV[1]: run id; the step's own arguments follow.

-- State of one call, assigned by `begin_run` alone.
local meta, spec, place, children, levels, state, facts, pending, opened, ready, queued, busy, owed, stranded, sent, tips, output,
  checkpoint, parents, behind, posted, events -- keys of the run, in the order of RunKeys.own
local runs, live, leases, holders, stops, timers, counters -- keys of all runs, in the order of Keys.step
local OWN, SHARED = 22, 8
local run -- its id
local sends -- messages that the caller has to send to workers: {todo, attempt, repo, host, level, index, size}
local memo -- what was read of todos so far (facts, states, descriptors), and the changes of facts to be written
local budget -- todos that this call may still end or line up

local PIECE, LOOKED_AT = 300, 10000 -- todos that a step ends or lines up, and those that it goes through to find them: 10 to 25 ms

local function begin_run(keys, args)
  meta, spec, place, children, levels, state, facts, pending, opened, ready, queued, busy, owed, stranded, sent, tips, output,
    checkpoint, parents, behind, posted, events = unpack(keys, 1, OWN)
  runs, live, leases, holders, stops, timers, counters, head = unpack(keys, OWN + 1, OWN + SHARED)
  run, sends = args[1], {}
  memo = { known = {}, changed = {}, changes = 0, tally = {}, places = {}, states = {} }
  budget = { left = PIECE }
end

local RECHECK_MS = 5000 -- who waits is told by who frees it; this catches holders that expired, and a teller that died in between
local EVENTS_KEPT = 100000
local TOLD_MS, TOLD_AT_MOST = 60000, 1000 -- a worker that reads none of them learns it from its heartbeat
local NOWHERE = '-' -- the repository of a milestone: a person approves it, and nothing is done
local ENDED = {
  succeeded = true, failed = true, skipped = true, cancelled = true, compensated = true, compensation_failed = true,
}

-- Of facts, and of how many todos are in which state: each is read once, and what changes is written at once (write_down): half
-- of a step's time goes into calls.
local AT_ONCE = 1000

local function write_down()
  local set, gone = {}, {}
  for field in pairs(memo.changed) do
    local value = memo.known[field]
    if value then set[#set + 1], set[#set + 2] = field, value else gone[#gone + 1] = field end
  end
  if #set > 0 then call('HSET', facts, unpack(set)) end
  if #gone > 0 then call('HDEL', facts, unpack(gone)) end
  for at, n in pairs(memo.tally) do
    if n ~= 0 then call('HINCRBY', meta, 'n.' .. at, n) end
  end
  memo.changed, memo.changes, memo.tally = {}, 0, {}
end

local function change(field, value)
  memo.known[field], memo.changed[field], memo.changes = value, true, memo.changes + 1
  if memo.changes > AT_ONCE then write_down() end
end

local function look_up(fields)
  local known, unknown = memo.known, {}
  for _, field in ipairs(fields) do
    if known[field] == nil then unknown[#unknown + 1] = field end
  end
  if #unknown == 0 then return end
  for i, value in ipairs(call('HMGET', facts, unpack(unknown))) do known[unknown[i]] = value end
end

local function fact(todo, name)
  local known, field = memo.known, todo .. ' ' .. name
  if known[field] == nil then known[field] = call('HGET', facts, field) end
  return known[field]
end

-- Several at once, in the order of their names; false for what is not there.
local function facts_of(todo, ...)
  local fields, values = {}, {}
  for i, name in ipairs({ ... }) do fields[i] = todo .. ' ' .. name end
  look_up(fields)
  for i, field in ipairs(fields) do values[i] = memo.known[field] end
  return unpack(values)
end

local function note(todo, name, value)
  change(todo .. ' ' .. name, type(value) == 'number' and string.format('%.17g', value) or value)
end

local function erase(todo, name)
  if memo.known[todo .. ' ' .. name] ~= false then change(todo .. ' ' .. name, false) end
end

-- Why the todo does not run: a member of WaitReason in runs/records.py, and a text for people.
local function wait_for(todo, reason, words)
  note(todo, 'wait_reason', reason)
  note(todo, 'waits_for', words)
end

local function wait_no_more(todo)
  erase(todo, 'wait_reason')
  erase(todo, 'waits_for')
end

local function increment(todo, name) note(todo, name, (tonumber(fact(todo, name)) or 0) + 1) end
-- What an attempt leaves is told apart from what undoing it leaves: people are shown both.
local function note_of_attempt(todo, name, value) note(todo, (fact(todo, 'undo') and 'undo_' or '') .. name, value) end

local function state_of(todo)
  local states = memo.states
  if states[todo] == nil then states[todo] = call('HGET', state, todo) end
  return states[todo]
end

local function member(todo) return run .. ' ' .. todo end
local function count(what) call('HINCRBY', counters, what, 1) end
local function goes_on(status) return status == 'running' or status == 'rolling_back' end

local function emit(what, todo, ...)
  return call('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'what', what, 'todo', todo, ...)
end

local function place_of(todo) -- it never changes
  local places = memo.places
  if places[todo] then return places[todo] end
  local order, level, repo, kind, priority, wants =
    string.match(call('HGET', place, todo), '^(%S+) (%S+) (%S+) (%S+) (%S+) ?(.*)$')
  places[todo] = { order = tonumber(order), level = level, repo = repo, kind = kind, priority = priority, wants = wants }
  return places[todo]
end

local function move(todo, to)
  local from = state_of(todo)
  if from == to then return end
  call('HSET', state, todo, to)
  memo.states[todo] = to
  local tally = memo.tally
  tally[from], tally[to] = (tally[from] or 0) - 1, (tally[to] or 0) + 1
  note(todo, 'since', now)
  if ENDED[to] then count('todos_' .. to) end
  local attempt, undoing = facts_of(todo, 'attempt', 'undo')
  local why = {} -- of a parked todo: later on nobody knows it any more
  if to == 'parked' then why = { 'waits_for', fact(todo, 'waits_for') or '', 'reason', fact(todo, 'wait_reason') or '' } end
  if undoing then return emit('todo.' .. to, todo, 'attempt', attempt, 'undo', undoing, unpack(why)) end
  emit('todo.' .. to, todo, 'attempt', attempt, unpack(why))
end
