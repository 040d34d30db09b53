-- Closes a breaker by hand, its failures forgotten; who stands behind it goes on. It is noted who did it.
-- KEYS: head    ARGV: name, who does it
-- Returns: the state that it had; empty where it was at rest
local KEPT = 1000
local name, actor = unpack(ARGV)
local state = breaker.state(name)
if not state then return '' end
local why = call('HGET', key(KEY.breaker, name), 'why') or ''
call('XADD', head .. KEY.breaker_resets, 'MAXLEN', '~', KEPT, '*', 'name', name, 'by', actor, 'state', state, 'why', why)
breaker.close(name)
return state
