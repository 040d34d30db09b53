-- Claim a delivered todo for a worker: → running with a lease and a fence, or a refusal.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, attempt, worker, host, request id, lease in ms, why this worker cannot work in the
--   repository (or empty), why it begins nothing new (or empty)
-- Returns: `granted` (…, fence, spec, tip, tries, checkpoint, the signed result of the tip, whether
--   any context is shared, the question that a person has answered, the answer, the JSON of what its agents
--   have used; for a compensation also:
--   the state it had, its output, whether nothing else is
--   left to undo in its repository, the run that executed it, whether that run had ended, and its signed
--   result), or a refusal:
--   `unknown`   no such run or todo             `stale`     another attempt is the current one
--   `ended`     already settled                 `taken`     another delivery of it is being executed
--   `early`     its turn has not come           `parked`    it waits for its slot, its resources,
--                                               a worker there, a circuit breaker, the
--                                               budget of its agents, or a person who
--                                               connects its repository
--   `elsewhere` the run works on another host: the caller sends the message there
local todo, attempt, worker, host, request_id, lease_ms, unfit, short = unpack(ARGV, 2, 9)
local at = state_of(todo)
if not at then return { 'unknown', sends, woken, '' } end

local p = place_of(todo)
local its_attempt, tries, rank, undoing, was =
  facts_of(todo, 'attempt', 'tries', 'rank', 'undo', 'was', 'waits_for', 'begun_in', 'wait_reason',
    'parked_for', 'agents', 'budget_approved')

local function granted(fence)
  local kept = call('HGET', checkpoint, todo) or ''
  local record = undoing and call('HGET', checkpoint, todo .. ' undo') or kept
  local tip = call('HGET', tips, p.repo) or ''
  local tip_result, its_result = unpack(call('HMGET', results, 'tip ' .. p.repo, todo))
  local its_spec = call('HGET', spec, todo)
  local answer = reply('granted', fence, its_spec, tip, tries or '0', record, tip_result or '')
  -- the first of their names
  answer[#answer + 1] = #call('ZRANGEBYLEX', head .. KEY.cache_contexts, '[ecosystem', '+', 'LIMIT', 0, 1)
  local question, text, used = facts_of(todo, 'answered_question', 'answer', 'usage')
  answer[#answer + 1] = question or ''
  answer[#answer + 1] = text or ''
  answer[#answer + 1] = used or ''
  if undoing then
    local last = call('HGET', meta, 'intents.' .. p.repo) == '1' and call('HEXISTS', meta, 'restoring') == 0
      and '1' or '0'
    local done_in = fact(todo, 'run') or fact(todo, 'begun_in') or run
    local had_ended = tostring(call('HEXISTS', meta, 'lay_still_ms'))
    local todo_output = call('HGET', output, todo) or kept
    for _, value in ipairs({ was, todo_output, last, done_in, had_ended, its_result or '' }) do
      answer[#answer + 1] = value
    end
  end
  return answer
end

if at == 'running' and fact(todo, 'request') == request_id then return granted(fact(todo, 'fence')) end
if ENDED[at] then return reply('ended') end
if attempt ~= its_attempt then return reply('stale') end
if at == 'running' then return reply('taken') end

if at == 'ready' or at == 'parked' then
  call('SADD', unsent, todo)
  if at == 'ready' then
    local first = call('HGET', occupant, p.lane)
    local other_first = first ~= todo and first
    wait_for(todo, 'repository',
      other_first and ('repository ' .. p.repo .. ', where ' .. first .. ' comes first') or 'its turn')
    move(todo, 'parked')
  end
  return reply('early')
end
if at ~= 'dispatched' then return reply('stale') end

local status, pinned = unpack(call('HMGET', meta, 'status', 'host.' .. p.repo))
if not goes_on(status) then -- paused: it returns to the head of its repository
  release_all(todo, p)
  call('SADD', unsent, todo)
  call('ZADD', ready, turn_of(todo, p), todo)
  wait_for(todo, 'paused', 'the run is paused: coord run resume ' .. run)
  move(todo, 'parked')
  return reply('early')
end

if pinned and pinned ~= host then
  sends[1] = delivery(todo)
  call('ZADD', sent, now, todo)
  return reply('elsewhere')
end

if call('HEXISTS', head .. KEY.disconnected, p.repo) == 1 then
  local why = p.repo .. ' is disconnected; a person connects it: coord repo connect ' .. p.repo
  park(todo, 'disconnected', why, RECHECK_MS)
  return reply('parked')
end

if unfit == '' and not undoing then unfit = short end -- a compensation frees space, so it begins all the same
if unfit ~= '' then -- not pinned: another host may serve the repository
  park(todo, 'worker', unfit, RECHECK_MS)
  return reply('parked')
end

local held_up, to_probe = verdicts.park(todo, p)
if held_up then return reply('parked') end

local spent, anew_at = agents.over_budget(todo)
if spent then
  agents.ask_person(todo, spent .. '; to let it go on: coord approve ' .. todo, spent, 'budget', anew_at)
  return reply('parked')
end

local request = load(member(todo))
local fence, names = request and request.state == 'held' and keep(request), nil
if not fence then
  if request then give_back(request.id) end -- an offer that has expired
  local waited_us, needs = p.priority * PRIORITY_STEP_US, agents.needs(todo, p)
  rank = tonumber(rank) or now_us - waited_us
  request = {
    id = member(todo), kind = 'todo', ttl = 0, rank = rank, arrived = math.floor((rank + waited_us) / 1000),
    wants = wants_of(needs),
  }
  local beyond = shortfall(request)
  if beyond then
    settle(todo, 'failed', beyond)
    return reply('ended')
  end
  fence, names = ask(request, needs, p.priority)
end
if not fence then
  note(todo, 'rank', string.format('%.0f', rank))
  release_worker(todo, p)
  await(todo, p, request, names)
  dispatch_ready()
  return reply('parked')
end

if not pinned then call('HSET', meta, 'host.' .. p.repo, host) end
call('ZADD', leases, now + lease_ms, member(todo))
call('HSET', holders, member(todo), fence)
call('ZREM', sent, todo)
for name, value in pairs({ fence = fence, worker = worker, host = host, request = request_id }) do
  note(todo, name, value)
end
-- the start of a service counts from its order, however often the todo was parked until the service is up
if undoing or not (string.match(p.kind, '^service') and fact(todo, 'held_up')) then
  note_of_attempt(todo, 'started_at', now)
end
if not undoing then -- before the work begins: from now on there may be something to undo
  note(todo, 'intent', fence)
  erase(todo, 'begun_in')
end
erase(todo, 'rank')
clear_wait(todo)
move(todo, 'running')
if to_probe then verdicts.probe_with(todo, to_probe) end
return granted(fence)
