-- Hide a key of outer contexts for the ttl; the context's own value is replaced.
-- KEYS: head    ARGV: context, key, ttl in ms, eviction policy, maximum bytes, `new` as for cache/put
-- Returns: `kept`, `there`, `more` or `none`, as cache/put
local context, name, ttl_ms, policy, max_bytes, mode = unpack(ARGV)
if mode == 'new' and entry(context, name) then return 'there' end
local verdict = make_room(context, name, HIDES, 0, tonumber(max_bytes), policy, true)
if verdict ~= 'room' then return verdict end
set(context, name, HIDES, '', now + tonumber(ttl_ms), policy)
changed(context)
return 'kept'
