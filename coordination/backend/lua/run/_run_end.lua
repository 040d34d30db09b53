-- The end of a todo, and of the run with its last todo.

local function finish(status)
  call('HSET', meta, 'status', status, 'finished_at', now)
  if status == 'rolled_back' then change_set.take_back() end
  change_set.release()
  call('ZREM', live, run)
  call('ZREM', timers, member(''))
  local barrier = call('HGET', meta, 'barrier')
  if barrier then give_back(member(barrier)) end
  local level = call('HGET', meta, 'level')
  if call('HEXISTS', opened, level) == 1 and call('HSETNX', meta, 'advanced.' .. level, 'end') == 1 then
    -- before the end event: a process that follows the run stops reading there
    emit_of_run('level.settled', nil, 'level', level, 'source', 'end')
  end
  if status == 'rollback_failed' then call('ZADD', head .. KEY.half_undone, now, run) end
  local file = call('HGET', meta, 'file')
  if file then call('ZADD', head .. KEY.unwritten .. file, now, run) end
  count('runs_' .. status)
  -- a rollback may reopen the run: `at` tells its ends apart
  local entry = emit('run.ended', '', 'status', status, 'at', now)
  local plan, started_at, succeeded, failed, skipped, cancelled, undone = unpack(call('HMGET', meta,
    'plan_id', 'started_at', 'n.succeeded', 'n.failed', 'n.skipped', 'n.cancelled', 'n.compensated'))
  announce('run.ended', run, 'run', run, 'plan', plan or '', 'entry', entry, 'status', status,
    'duration_ms', math.max(0, now - (tonumber(started_at) or now)), 'succeeded', succeeded or 0,
    'failed', failed or 0, 'skipped', skipped or 0, 'cancelled', cancelled or 0, 'compensated', undone or 0)
end

local function finish_if_done()
  write_down()
  local status, left, cancelled, failed, intents, ending =
    unpack(call('HMGET', meta, 'status', 'open', 'cancelled', 'n.failed', 'intents', 'ending'))
  if tonumber(left) > 0 or ending then return end
  if status == 'rolling_back' then
    local checkpoint_name = call('HGET', meta, 'restoring')
    if intents ~= '0' then return finish('rollback_failed') end
    if not checkpoint_name then return finish('rolled_back') end
    -- Restored: todos that had succeeded at the checkpoint succeed again, and a retry does the rest.
    for _, todo in ipairs(cjson.decode(call('HGET', meta, 'named.' .. checkpoint_name)).succeeded) do
      local kept = fact(todo, 'kept_intent')
      if kept then
        note(todo, 'intent', kept)
        erase(todo, 'kept_intent')
      end
    end
    write_down()
    for _, field in ipairs(call('HKEYS', meta)) do
      if field == 'intents' or string.sub(field, 1, 8) == 'intents.' then call('HDEL', meta, field) end
    end
    call('HDEL', meta, 'restoring', 'rollback', 'rolled_back_by')
    call('DEL', behind, parents)
    call('HSET', meta, 'restored', checkpoint_name)
    call('HSETNX', meta, 'cancelled', 'the restore of checkpoint ' .. checkpoint_name)
    finish('cancelled')
  elseif status == 'running' or status == 'paused' then
    finish(cancelled and 'cancelled' or (tonumber(failed or 0) > 0 and 'failed') or 'succeeded')
  end
end

-- Release what a worker holds of the todo: lease, timer, its share of max_parallel.
local function release_worker(todo, p)
  local was = state_of(todo)
  if was == 'running' or was == 'dispatched' then call('HINCRBY', meta, 'active', -1) end
  if was == 'running' then
    call('ZREM', leases, member(todo))
    call('HDEL', holders, member(todo))
    call('SREM', stops, member(todo))
    return was
  end
  call('ZREM', timers, member(todo))
  call('ZREM', sent, todo)
  if call('HGET', stranded, p.lane) == todo then call('HDEL', stranded, p.lane) end
  return was
end

-- Release everything a todo holds besides its state.
local function release_all(todo, p)
  if release_worker(todo, p) == 'running' then
    release_grants({ id = member(todo), kind = 'todo', wants = wants_of(agents.needs(todo, p)) })
  else
    give_back(member(todo))
  end
end

local function end_todo(todo, outcome, why, p)
  p = p or place_of(todo)
  if state_of(todo) ~= 'running' then
    call('ZREM', ready, todo)
    call('ZREM', queued, queue_key(p, todo))
  end
  if outcome == 'succeeded' and string.find(p.wants, ' land:', 1, true) then
    release_worker(todo, p) -- the barrier of a landing: the run keeps its locks until it ends
    call('HSET', meta, 'barrier', todo)
  else
    release_all(todo, p)
  end
  clear_wait(todo)
  if why ~= '' then note_of_attempt(todo, 'error', why) end
  note_of_attempt(todo, 'finished_at', now)
  move(todo, outcome)
  local expected, undoing = facts_of(todo, 'expected', 'undo')
  local expected_ms = not undoing and string.match(expected or '', '^%d+')
  -- the progress of the run: what a person has written there must not end the step
  if expected_ms and #expected_ms <= 13 then call('HINCRBY', meta, 'ended_ms', expected_ms) end
  call('HINCRBY', meta, 'open', -1)
  if call('HEXISTS', opened, p.level) == 1 and call('HINCRBY', opened, p.level, -1) == 0 then
    call('HSET', meta, 'level_settled_at', now)
  end
end
