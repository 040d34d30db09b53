-- How a todo's turn ends, or is put off, and what follows from it for the others.

local function release_dependents(todo)
  local by_level = call('HGET', meta, 'strategy') == 'levels'
  for child in string.gmatch(call('HGET', children, todo) or '', '%S+') do
    -- Under `levels` the level's chord opens the next one; a child is never ahead of it.
    if call('HINCRBY', pending, child, -1) == 0 and state_of(child) == 'waiting' and not by_level then open_todo(child) end
  end
end

-- The one way in which a todo that had its turn ends, and what follows from it.
local function settle(todo, outcome, why)
  local p = place_of(todo)
  if fact(todo, 'undo') then return settle_undo(todo, outcome, why, p) end
  end_todo(todo, outcome, why, p)
  free_repo(p, todo)
  if outcome == 'succeeded' and p.repo ~= NOWHERE then
    -- A sweep asks whether the commit of a completed todo is in the base (runs/landed.py); without one of its own, a person did
    -- it, it worked in place, or it changed nothing.
    local commit = fact(todo, 'commit')
    if commit and commit ~= fact(todo, 'began') then
      call('HSET', head .. KEY.commits, todo, commit .. ' ' .. run .. ' ' .. p.repo)
    else
      call('HDEL', head .. KEY.commits, todo)
    end
  end
  local status, on_failure, halted, cancelled = unpack(call('HMGET', meta, 'status', 'on_failure', 'halted', 'cancelled'))
  local over = halted or cancelled -- then all that stands behind it ends anyway
  if status == 'rolling_back' then
    begin_undoing_when_quiet()
  elseif outcome == 'failed' and on_failure == 'rollback' then
    roll_back(todo .. ' failed: ' .. (string.match(why, '^[^\n]*')), '', 'skipped')
  elseif outcome == 'failed' and on_failure == 'halt' then
    call('HSETNX', meta, 'halted', todo)
    if not over then end_all_but_running('skipped', 'halted: ' .. todo .. ' failed') end
  elseif outcome == 'succeeded' and not over then
    release_dependents(todo)
  elseif not over then
    skip_dependents(todo, 'needs ' .. todo .. ', which ' .. (outcome == 'failed' and outcome or 'was ' .. outcome))
  end
  pump()
  finish_if_done()
end

-- What a person decided, or the gate's timeout for them.
local function decide(todo, verdict, who, comment)
  call('ZREM', timers, member(todo))
  local word = verdict == 'approve' and 'approved' or 'rejected'
  note(todo, word .. '_by', who)
  note(todo, 'decided_at', now)
  if comment ~= '' then note(todo, 'comment', comment) end
  emit('todo.' .. word, todo, 'by', who, 'comment', comment)
  if verdict == 'reject' then
    settle(todo, 'failed', 'rejected by ' .. who .. (comment ~= '' and ': ' .. comment or ''))
    return 'settled'
  end
  local p = place_of(todo)
  if p.kind == 'manual' then
    note(todo, 'worker', who)
    if p.repo ~= NOWHERE then note(todo, 'intent', now) end
    settle(todo, 'succeeded', '')
    return 'settled'
  end
  wait_no_more(todo)
  enqueue(todo)
  pump()
  return 'approved'
end

local function no_new_start(todo)
  local status, halted, cancelled = unpack(call('HMGET', meta, 'status', 'halted', 'cancelled'))
  if status == 'rolling_back' then return not fact(todo, 'undo') end
  return halted or cancelled
end

-- How a todo ends that was under way when that was decided, and why.
local function ending()
  local status, by, halted, rollback, timed_out =
    unpack(call('HMGET', meta, 'status', 'cancelled', 'halted', 'rollback', 'timed_out'))
  if status == 'rolling_back' then return 'cancelled', 'rolled back: ' .. rollback end
  if timed_out then return 'cancelled', timed_out end
  if by then return 'cancelled', 'cancelled by ' .. by end
  return 'failed', 'halted: ' .. halted .. ' failed'
end

-- The todo is tried again: at once (delay 0) or when its timer is due. `counted` is `tries` (its own failure),
-- `lost` (its worker is gone) or `handed_back` (its worker was told to stop: counts towards nothing).
local function again(todo, counted, delay_ms, why)
  local p = place_of(todo)
  let_go(todo, p)
  increment(todo, counted)
  increment(todo, 'attempt')
  erase(todo, 'held_up')
  erase(todo, 'held_up_limited')
  if why ~= '' then note_of_attempt(todo, 'error', why) end
  call('SADD', owed, todo)
  free_repo(p, todo)
  if tonumber(delay_ms) > 0 then
    call('ZADD', timers, now + delay_ms, member(todo))
    wait_for(todo, 'timer', 'another try')
    move(todo, 'retrying')
  else
    enqueue(todo)
  end
  pump()
end

-- Held up, without a worker's slot.
local function set_aside(todo, reason, why, delay_ms)
  wait_for(todo, reason, why)
  move(todo, 'parked')
  call('SADD', owed, todo)
  call('ZADD', timers, now + delay_ms, member(todo))
end

-- The repository stays kept for it, and its timer asks again.
local function park(todo, reason, why, delay_ms)
  let_go(todo, place_of(todo))
  set_aside(todo, reason, why, delay_ms)
  pump()
end

-- Until it is handed what it needs. Others of its repository go on, unless they would wait for the same seat.
local function await(todo, p, request, names)
  local reason = kind_of(names[1]) == 'seat' and 'repository' or 'resource'
  set_aside(todo, reason, obstacles(request, names), math.min(RECHECK_MS, next_expiry(names) or RECHECK_MS))
  if not has_seat(names) then free_repo(p, todo) end
end

-- To each worker that runs a todo of this run, at once; what it is to do stands elsewhere. Who has no inbox, for its user may
-- read none, hears that there is something. `event`: the entry of the run's events.
-- For steps that use the room of messages.
local function tell_workers(kind, by, event)
  local sequence = string.gsub(event, '-', '.')
  local body = cjson.encode({ run = run, by = by })
  local letter = message.letter('run:' .. run, sequence, kind, body, TOLD_MS, TOLD_AT_MOST, TOLD_MS)
  local told = {}
  for _, todo in ipairs(running_todos()) do
    local worker = fact(todo, 'worker')
    if worker and not told[worker] then
      told[worker] = true
      local to = 'worker:' .. worker
      if message.send(head, to, letter) < 0 then call('PUBLISH', head .. KEY.mail .. to, '') end
    end
  end
end

-- What an attempt that did not succeed has written of the todo's output, for the next one. What undoes it leaves that as it is.
local function keep_so_far(todo, json)
  if json ~= '' and not fact(todo, 'undo') then call('HSET', checkpoint, todo, json) end
end

local function held_by(todo, fence) return call('HGET', holders, member(todo)) == fence end

local function reply(word, ...)
  write_down()
  return { word, sends, woken, call('HGET', meta, 'status') or '', ... }
end
