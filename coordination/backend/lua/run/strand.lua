-- Hold up the todos of a repository while no living worker serves it, on the run's host if the run has one
-- there; release them when one does again.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, then a repository and a host for each pair that a living worker serves
-- Returns: `stranded` if any todo was held up, else `served`.
local serves, hosts = {}, {}
for i = 2, #ARGV, 2 do
  local repo, host = ARGV[i], ARGV[i + 1]
  serves[repo .. '@' .. host] = true
  hosts[repo] = hosts[repo] and (hosts[repo] .. ', ' .. host) or host
end

-- Return whether a worker can take the repository's todos, and the host that they are bound to.
local function served(repo)
  local host = call('HGET', meta, 'host.' .. repo)
  if host then return serves[repo .. '@' .. host], host end
  return hosts[repo]
end

local function missing(todo, repo, host)
  if not host then return 'a worker for ' .. repo .. ': none serves it' end
  local others = hosts[repo]
  others = others and (' (' .. others .. ' serves it, but the work of this run is there)') or ''
  local remedy = 'coord cancel ' .. run .. ', coord retry ' .. run .. ' --without ' .. host
  if fact(todo, 'undo') then
    remedy = 'coord rollback ' .. run .. ' --accept ' .. todo .. ' --reason "…"'
  end
  local words = 'host ' .. host .. ', where no worker serves ' .. repo .. ' now'
  return words .. others .. '; gone for good: ' .. remedy
end

-- A worker may be about to start, so a repository without a host is given some time.
local function is_overdue(todo, host) return host or now - tonumber(fact(todo, 'since')) >= RECHECK_MS end

local word = 'served'
local kept = call('HGETALL', occupant)
for i = 1, #kept, 2 do
  local lane, todo = kept[i], kept[i + 1]
  local repo = place_of(todo).repo
  local fit, host = served(repo)
  if not fit and state_of(todo) == 'dispatched' and is_overdue(todo, host) then
    release_all(todo, place_of(todo))
    call('SADD', unsent, todo)
    call('HSET', stranded, lane, todo)
    park_outside(todo, 'worker', missing(todo, repo, host))
    word = 'stranded'
  end
end

local waiting = call('HGETALL', stranded)
for i = 1, #waiting, 2 do
  local lane, todo = waiting[i], waiting[i + 1]
  local p = place_of(todo)
  if served(p.repo) then
    call('HDEL', stranded, lane)
    clear_wait(todo)
    move(todo, 'ready')
    keep_for(p, todo, turn_of(todo, p))
  end
end
dispatch_ready()
return reply(word)
