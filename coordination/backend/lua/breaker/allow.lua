-- Ask whether a caller may call the target of a breaker. The same caller gets the same answer again.
-- KEYS: head    ARGV: name, id of the caller (one for each call), description of the caller, probe time in ms
-- Returns: `closed`; `probe`: only this caller may try, and must record the result; or `open` or `half-open`,
--   until when in ms, and the reason as text
local name, who, by, ttl_ms = unpack(ARGV)
local state, ends = breaker.access(name, who)
if state == 'probe' then breaker.begin_probe(name, who, by, now + ttl_ms) end
if not ends then return { state } end
return { state, string.format('%.0f', ends), breaker.refusal_text(name, state, ends) }
