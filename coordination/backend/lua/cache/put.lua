-- Write a value under a key of a context, and make room for it.
-- KEYS: head
-- ARGV: context, key, SHA-256 of the value, the value, ttl in ms, eviction policy (`lru`, `lfu`, `ttl`),
--   maximum bytes of the cache, `new` to write only a key without a value (else empty)
-- Returns: `kept`, generation; `there`: the key has a value already; `more`: nothing is written yet; call
--   again, because a step evicts a limited number; `none`: it does not fit, and nothing is evicted for it if
--   it never can
local context, name, digest, value, ttl_ms, policy, max_bytes, mode = unpack(ARGV)
local expires = now + tonumber(ttl_ms)

expire(20)
local former, size = entry(context, name)
if former and mode == 'new' then return { 'there', '0' } end
if former == digest then -- same value: only its ttl begins anew
  call('HSET', entries_of(context), name, record_of(digest, size, expires))
  call('ZADD', head .. KEY.cache_expiry, expires, member_of(context, name))
  used(context, name, policy, expires)
else
  local verdict = make_room(context, name, digest, #value, tonumber(max_bytes), policy, true)
  if verdict ~= 'room' then return { verdict, '0' } end
  set(context, name, digest, value, expires, policy)
end
count('puts', 1)
changed(context)
return { 'kept', generations({ context })[1] }
