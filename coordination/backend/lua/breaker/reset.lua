-- Close a breaker by hand: delete its failures, let the parked todos continue, and log who did it.
-- KEYS: head    ARGV: name, actor
-- Returns: its state before; empty if it was closed without failures
local KEPT = 1000
local name, actor = unpack(ARGV)
local state = breaker.state(name)
if not state then return '' end
local why = call('HGET', key(KEY.breaker, name), 'why') or ''
call('XADD', head .. KEY.breaker_resets, 'MAXLEN', '~', KEPT, '*',
  'name', name, 'by', actor, 'state', state, 'why', why)
breaker.close(name)
announce('breaker.reset', name, 'actor', actor, 'repos', breaker.repo_of(name), 'title', why, 'state', state)
return state
