-- Whether whoever asks may call what stands behind the breaker. Asked again by the same one, it answers the same.
-- KEYS: head    ARGV: name, who asks (an id of its own for this call), who that is in words, for how long it may probe in ms
-- Returns: `closed`; `probe`: it is the only one that may try, and has to say what came of it; or `open` or `half-open`, until when
--   in ms, and why in words
local name, who, by, ttl_ms = unpack(ARGV)
local state, ends = breaker.stance(name, who)
if state == 'probe' then breaker.begin_probe(name, who, by, now + ttl_ms) end
if not ends then return { state } end
return { state, string.format('%.0f', ends), breaker.in_words(name, state, ends) }
