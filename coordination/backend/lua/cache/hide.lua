-- Hides what outer contexts have under a key, for so long; what the context had there itself is gone.
-- KEYS: head    ARGV: context, key, ttl in ms, eviction policy, most bytes, `new` as for cache/put
-- Returns: `kept`, `there`, `more` or `none`, as cache/put
local context, name, ttl_ms, policy, max_bytes, mode = unpack(ARGV)
if mode == 'new' and entry(context, name) then return 'there' end
unset(context, name)
local verdict = make_room(function() return #member_of(context, name) + OVERHEAD end, tonumber(max_bytes), policy)
if verdict ~= 'room' then return verdict end
set(context, name, HIDES, '', now + tonumber(ttl_ms), policy)
changed(context)
return 'kept'
