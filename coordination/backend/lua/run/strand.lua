-- Hold up the todos of a repository while no living worker on the run's host serves it; release them when one
-- does again.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, then a repository and a host for each pair that a living worker serves
-- Returns: `stranded` if any todo was held up, else `served`.
local serves, hosts = {}, {}
for i = 2, #ARGV, 2 do
  local repo, host = ARGV[i], ARGV[i + 1]
  serves[repo .. '@' .. host] = true
  hosts[repo] = hosts[repo] and (hosts[repo] .. ', ' .. host) or host
end
local function pinned(repo) return call('HGET', meta, 'host.' .. repo) end

local word = 'served'
local kept = call('HGETALL', busy)
for i = 1, #kept, 2 do
  local lane, todo = kept[i], kept[i + 1]
  local repo = place_of(todo).repo
  local host = pinned(repo)
  if host and not serves[repo .. '@' .. host] and state_of(todo) == 'dispatched' then
    release_all(todo, place_of(todo))
    call('SADD', owed, todo)
    call('HSET', stranded, lane, todo)
    local others = hosts[repo]
    others = others and (' (' .. others .. ' serves it, but the work of this run is there)') or ''
    local remedy = 'coord cancel ' .. run .. ', coord retry ' .. run .. ' --without ' .. host
    if fact(todo, 'undo') then
      remedy = 'coord rollback ' .. run .. ' --accept ' .. todo .. ' --reason "…"'
    end
    local missing = 'host ' .. host .. ', where no worker serves ' .. repo .. ' now'
    wait_for(todo, 'worker', missing .. others .. '; gone for good: ' .. remedy)
    move(todo, 'parked')
    word = 'stranded'
  end
end

local waiting = call('HGETALL', stranded)
for i = 1, #waiting, 2 do
  local lane, todo = waiting[i], waiting[i + 1]
  local repo = place_of(todo).repo
  local host = pinned(repo)
  if not host or serves[repo .. '@' .. host] then
    call('HDEL', stranded, lane)
    clear_wait(todo)
    move(todo, 'ready')
    local p = place_of(todo)
    keep_for(p, todo, turn_of(todo, p))
  end
end
dispatch_ready()
return reply(word)
