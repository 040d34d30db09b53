-- What the steps of a run share. Every step runs whole or not at all, and is one move of the state machine of
-- runs/__init__.py.
-- KEYS: wire/keys.py, Keys.step().   ARGV[1]: run id; the step's own arguments follow.

local OWN, SHARED = 22, 8 -- keys that belong to the run alone, and those that all runs share
local meta, spec, place, children, levels, state, facts, pending, opened, ready, queued, busy, owed, stranded, sent, tips, output,
  checkpoint, parents, behind, posted, events = unpack(KEYS, 1, OWN)
local runs, live, leases, holders, stops, timers, counters = unpack(KEYS, OWN + 1)
head = KEYS[OWN + SHARED]
local run = ARGV[1]

local RECHECK_MS = 5000 -- who waits is told by who frees it; this catches holders that expired, and a teller that died in between
local EVENTS_KEPT = 100000
local TOLD_MS, TOLD_AT_MOST = 60000, 1000 -- a worker that reads none of them learns it from its heartbeat
local NOWHERE = '-' -- the repository of a milestone: a person approves it, and nothing is done
local ENDED = {
  succeeded = true, failed = true, skipped = true, cancelled = true, compensated = true, compensation_failed = true,
}

local sends = {} -- what the caller has to send to the workers: {todo, attempt, repo, host, level, index, size}

local function fact(todo, name) return call('HGET', facts, todo .. ' ' .. name) end
local function note(todo, name, value) call('HSET', facts, todo .. ' ' .. name, value) end
local function erase(todo, name) call('HDEL', facts, todo .. ' ' .. name) end
-- What an attempt leaves is told apart from what undoing it leaves: people are shown both.
local function note_of_attempt(todo, name, value) note(todo, (fact(todo, 'undo') and 'undo_' or '') .. name, value) end
local function state_of(todo) return call('HGET', state, todo) end
local function member(todo) return run .. ' ' .. todo end
local function count(what) call('HINCRBY', counters, what, 1) end
local function goes_on(status) return status == 'running' or status == 'rolling_back' end

local function emit(what, todo, ...)
  return call('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'what', what, 'todo', todo, ...)
end

local places = {}

local function place_of(todo) -- it never changes
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
  call('HINCRBY', meta, 'n.' .. from, -1)
  call('HINCRBY', meta, 'n.' .. to, 1)
  note(todo, 'since', now)
  if ENDED[to] then count('todos_' .. to) end
  local attempt, undoing = unpack(call('HMGET', facts, todo .. ' attempt', todo .. ' undo'))
  local why = to == 'parked' and { 'waits_for', fact(todo, 'waits_for') or '' } or {} -- later on nobody knows it any more
  if undoing then return emit('todo.' .. to, todo, 'attempt', attempt, 'undo', undoing, unpack(why)) end
  emit('todo.' .. to, todo, 'attempt', attempt, unpack(why))
end
