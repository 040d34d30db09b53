-- The end or delay of a todo's turn, and its consequences for other todos.

local function release_dependents(todo)
  local by_level = shape.is_by_level()
  for child in string.gmatch(call('HGET', children, todo) or '', '%S+') do
    -- Under `levels` the level's chord opens the next level; no child is in an earlier one.
    local free = call('HINCRBY', pending, child, -1) == 0
    if free and state_of(child) == 'waiting' and not by_level then open_todo(child) end
  end
end

-- End a todo that had its turn. All steps end such todos here.
local function settle(todo, outcome, why)
  local p = place_of(todo)
  if fact(todo, 'undo') then return settle_undo(todo, outcome, why, p) end
  end_todo(todo, outcome, why, p)
  release_repo(p, todo)
  if outcome == 'succeeded' and p.repo ~= MILESTONE_REPO then
    -- A sweep checks whether the commit of a completed todo is in the base (runs/submission/refusals.py), a
    -- landing whether it is there or lands (landing/completed.py). A todo has no commit if a person did it,
    -- it worked in place, or it changed nothing; that is recorded for the todos of plans.
    local commit = fact(todo, 'commit')
    if not commit or commit == fact(todo, 'began') then commit = change_set.is_written() and 'none' end
    if commit then
      call('HSET', head .. KEY.commits, todo, commit .. ' ' .. run .. ' ' .. p.repo)
    else
      call('HDEL', head .. KEY.commits, todo)
    end
    change_set.add(todo, p)
  end
  local values = call('HMGET', meta, 'status', 'on_failure', 'halted', 'cancelled')
  local status, on_failure, halted, cancelled = unpack(values)
  local over = halted or cancelled -- all dependents end anyway
  if status == 'rolling_back' then
    begin_undoing_when_quiet()
  elseif outcome == 'failed' and on_failure == 'rollback' and not fact(todo, 'optional') then
    roll_back(todo .. ' failed: ' .. (string.match(why, '^[^\n]*')), '', 'skipped')
  elseif outcome == 'failed' and on_failure == 'halt' then
    call('HSETNX', meta, 'halted', todo)
    if not over then end_all_but_running('skipped', 'halted: ' .. todo .. ' failed') end
  elseif outcome == 'succeeded' and not over then
    waves.advance(todo)
    release_dependents(todo)
  elseif not over then
    local ended = outcome == 'failed' and outcome or 'was ' .. outcome
    skip_dependents(todo, 'needs ' .. todo .. ', which ' .. ended)
  end
  dispatch_ready()
  finish_if_done()
end

-- Apply the decision of a person, or of the gate's timeout.
local function decide(todo, verdict, who, comment)
  call('ZREM', timers, member(todo))
  local question, reason = facts_of(todo, 'question', 'wait_reason')
  if question then
    erase(todo, 'question')
    if reason == 'budget' then note(todo, 'budget_approved', who) end
    -- an approval without words answers no question: the last answer stays
    if comment ~= '' or not fact(todo, 'answered_question') then
      note(todo, 'answered_question', question)
      note(todo, 'answer', comment)
    end
  end
  local word = verdict == 'approve' and 'approved' or 'rejected'
  note(todo, word .. '_by', who)
  note(todo, 'decided_at', now)
  if comment ~= '' then note(todo, 'comment', comment) end
  local entry = emit('todo.' .. word, todo, 'by', who, 'comment', comment)
  announce_todo('todo.' .. word, todo, entry, 'actor', who, 'title', first_line(comment))
  if verdict == 'reject' then
    settle(todo, 'failed', 'rejected by ' .. who .. (comment ~= '' and ': ' .. comment or ''))
    return 'settled'
  end
  local p = place_of(todo)
  if p.kind == 'manual' then
    note(todo, 'worker', who)
    if p.repo ~= MILESTONE_REPO then note(todo, 'intent', now) end
    settle(todo, 'succeeded', '')
    return 'settled'
  end
  clear_wait(todo)
  enqueue(todo)
  dispatch_ready()
  return 'approved'
end

local function no_new_start(todo)
  local status, halted, cancelled = unpack(call('HMGET', meta, 'status', 'halted', 'cancelled'))
  if status == 'rolling_back' then return not fact(todo, 'undo') end
  return halted or cancelled
end

-- Return the outcome and the reason for a todo that was running when the run was cancelled or halted.
local function ending()
  local status, by, halted, rollback, timed_out =
    unpack(call('HMGET', meta, 'status', 'cancelled', 'halted', 'rollback', 'timed_out'))
  if status == 'rolling_back' then return 'cancelled', 'rolled back: ' .. rollback end
  if timed_out then return 'cancelled', timed_out end
  if by then return 'cancelled', 'cancelled by ' .. by end
  return 'failed', 'halted: ' .. halted .. ' failed'
end

-- Try the todo again: at once (delay 0) or when its timer is due. `counted` is `tries` (its own failure),
-- `lost` (its worker is gone) or `handed_back` (its worker stops; no limit counts this).
local function again(todo, counted, delay_ms, why)
  local p = place_of(todo)
  local began = tonumber(fact(todo, 'started_at') or '')
  if began and not fact(todo, 'undo') then
    note(todo, 'tried_ms', (tonumber(fact(todo, 'tried_ms') or '0') or 0) + math.max(0, now - began))
  end
  release_all(todo, p)
  increment(todo, counted)
  increment(todo, 'attempt')
  erase(todo, 'held_up')
  erase(todo, 'held_up_limited')
  if why ~= '' then note_of_attempt(todo, 'error', why) end
  call('SADD', unsent, todo)
  release_repo(p, todo)
  if tonumber(delay_ms) > 0 then
    call('ZADD', timers, now + delay_ms, member(todo))
    wait_for(todo, 'timer', 'another try')
    move(todo, 'retrying')
  else
    enqueue(todo)
  end
  dispatch_ready()
end

-- Park the todo without a worker's slot.
local function park_with_timer(todo, reason, why, delay_ms)
  call('SADD', unsent, todo)
  call('ZADD', timers, now + delay_ms, member(todo))
  park_outside(todo, reason, why)
end

-- The repository stays reserved for it, and its timer asks again.
local function park(todo, reason, why, delay_ms)
  release_all(todo, place_of(todo))
  park_with_timer(todo, reason, why, delay_ms)
  dispatch_ready()
end

-- Wait for a person's answer to a question, with neither slot nor repository. `anew_at`: when it is asked for
-- no longer, in ms (nil: never).
function agents.ask_person(todo, words, question, reason, anew_at)
  local p = place_of(todo)
  note(todo, 'question', question)
  release_all(todo, p)
  release_repo(p, todo)
  call('SADD', unsent, todo)
  if anew_at then call('ZADD', timers, anew_at, member(todo)) end
  wait_for_person(todo, words, nil, reason)
  dispatch_ready()
end

-- Wait until the needs are granted. Other todos of the repository continue, unless they would wait for the
-- same slot.
local function await(todo, p, request, names)
  local reason = kind_of(names[1]) == 'slot' and 'repository' or 'resource'
  local delay_ms = math.min(RECHECK_MS, next_expiry(names) or RECHECK_MS)
  park_with_timer(todo, reason, obstacles(request, names), delay_ms)
  if not has_slot(names) then release_repo(p, todo) end
end

-- Notify each worker that runs a todo of this run. The workers read what to do elsewhere. A worker without an
-- inbox, because its user may read none, gets a bare notification. `event`: the entry of the run's events.
-- Only for steps that may use the package of messages.
local function tell_workers(kind, by, event)
  local sequence = string.gsub(event, '-', '.')
  local body = cjson.encode({ run = run, by = by })
  local outgoing = message.new('run:' .. run, sequence, kind, body, TOLD_MS, TOLD_AT_MOST, TOLD_MS)
  local notified = {}
  for _, todo in ipairs(running_todos()) do
    local worker = fact(todo, 'worker')
    if worker and not notified[worker] then
      notified[worker] = true
      local to = 'worker:' .. worker
      if message.send(head, to, outgoing) < 0 then call('PUBLISH', head .. KEY.mail .. to, '') end
    end
  end
end

-- Keep the output that an unsuccessful attempt has written, for the next attempt. A compensation leaves it
-- unchanged.
local function keep_output(todo, json)
  if json ~= '' and not fact(todo, 'undo') then call('HSET', checkpoint, todo, json) end
end

local function held_by(todo, fence) return call('HGET', holders, member(todo)) == fence end

local function reply(word, ...)
  write_down()
  return { word, sends, woken, call('HGET', meta, 'status') or '', ... }
end
