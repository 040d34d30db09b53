-- A worker asks for a todo that was delivered to it: → running with a lease and a fence, or a word why not.
-- ARGV: run, todo, attempt, worker, host, request id, lease in ms, why this worker cannot work in the repository (or empty)
-- Returns: `granted` (…, fence, spec, tip, tries), or a refusal:
--   `unknown`   no such run or todo             `stale`     an older or newer attempt is the one that counts
--   `ended`     settled already                 `taken`     another delivery of it is being executed
--   `early`     its turn has not come           `parked`    it waits for a seat in the repository, or for a worker that can work in it
--   `elsewhere` the run works on another host: the caller sends it there
local todo, attempt, worker, host, request, lease_ms, unfit = unpack(ARGV, 2, 8)
local at = state_of(todo)
if not at then return { 'unknown', sends, wakes, '' } end

local function grant(fence)
  local p = place_of(todo)
  return reply('granted', fence, call('HGET', spec, todo), call('HGET', tips, p.repo) or '', fact(todo, 'tries') or '0')
end

if at == 'running' and fact(todo, 'request') == request then return grant(fact(todo, 'fence')) end
if ENDED[at] then return reply('ended') end
if attempt ~= fact(todo, 'attempt') then return reply('stale') end
if at == 'running' then return reply('taken') end

local p = place_of(todo)
if at == 'ready' or at == 'parked' then
  call('SADD', owed, todo)
  if at == 'ready' then
    local first = call('HGET', busy, p.repo)
    note(todo, 'waits_for', first ~= todo and first and (p.repo .. ': ' .. first .. ' comes first') or 'its turn')
    move(todo, 'parked')
  end
  return reply('early')
end
if at ~= 'dispatched' then return reply('stale') end

if call('HGET', meta, 'status') ~= 'running' then -- paused: back to the head of its repository
  call('HINCRBY', meta, 'active', -1)
  call('ZREM', sent, todo)
  call('SADD', owed, todo)
  call('ZADD', ready, p.order, todo)
  note(todo, 'waits_for', 'the run is paused: coord resume ' .. run)
  move(todo, 'parked')
  return reply('early')
end

local pinned = call('HGET', meta, 'host.' .. p.repo)
if pinned and pinned ~= host then
  sends[1] = delivery(todo)
  call('ZADD', sent, now, todo)
  return reply('elsewhere')
end

if unfit ~= '' then -- not pinned: another host may serve the repository
  park(todo, unfit, RECHECK_MS)
  return reply('parked')
end

local range = { '[' .. p.seat .. '|', '(' .. p.seat .. '}' }
if call('ZLEXCOUNT', seats, range[1], range[2]) >= p.slots then
  local holder = string.match(call('ZRANGEBYLEX', seats, range[1], range[2], 'LIMIT', 0, 1)[1], '|(%S+)')
  local ticket = string.format('%s|%016.0f|%s', p.seat, now, member(todo))
  park(todo, 'repository ' .. p.repo .. ', where run ' .. holder .. ' works', RECHECK_MS)
  note(todo, 'ticket', ticket)
  call('ZADD', seat_queue, 0, ticket)
  return reply('parked')
end

-- Grows over restarts too, even over one that lost data: never below the clock in microseconds.
local fence = math.max(tonumber(call('GET', last_fence) or '0') + 1, TIME[1] * 1000000 + TIME[2])
fence = string.format('%.0f', fence)
call('SET', last_fence, fence)
call('HSET', meta, 'host.' .. p.repo, host)
call('ZADD', seats, 0, p.seat .. '|' .. member(todo))
call('ZADD', leases, now + lease_ms, member(todo))
call('HSET', holders, member(todo), fence)
call('ZREM', sent, todo)
for name, value in pairs({ fence = fence, worker = worker, host = host, request = request, started_at = now }) do
  note(todo, name, value)
end
forget(todo, 'waits_for')
move(todo, 'running')
return grant(fence)
