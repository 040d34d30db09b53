-- A run works on a repository on one host. While no worker there serves it, what is due waits without a message; once one does
-- again, it goes on.
-- ARGV: run, then a repository and a host for each pair that a living worker serves
-- Returns: `stranded` if anything was held up, else `served`.
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
  local repo, todo = kept[i], kept[i + 1]
  local host = pinned(repo)
  if host and not serves[repo .. '@' .. host] and state_of(todo) == 'dispatched' then
    let_go(todo, place_of(todo))
    call('SADD', owed, todo)
    call('HSET', stranded, repo, todo)
    local others = hosts[repo] and (' (' .. hosts[repo] .. ' serves it, but the work of this run is there)') or ''
    local without = fact(todo, 'undo') and ('coord rollback ' .. run .. ' --accept ' .. todo .. ' --reason "…"')
      or ('coord cancel ' .. run .. ', coord retry ' .. run .. ' --without ' .. host)
    wait_for(todo, 'worker',
      'host ' .. host .. ', where no worker serves ' .. repo .. ' now' .. others .. '; gone for good: ' .. without)
    move(todo, 'parked')
    word = 'stranded'
  end
end

local waiting = call('HGETALL', stranded)
for i = 1, #waiting, 2 do
  local repo, todo = waiting[i], waiting[i + 1]
  local host = pinned(repo)
  if not host or serves[repo .. '@' .. host] then
    call('HDEL', stranded, repo)
    wait_no_more(todo)
    move(todo, 'ready')
    local p = place_of(todo)
    keep_for(p, todo, turn_of(todo, p))
  end
end
pump()
return reply(word)
