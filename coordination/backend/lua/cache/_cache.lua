-- The context cache, for its steps. Design: cache/__init__.py.
-- An entry is a key of a context. The context's hash holds it as `<digest> <bytes> <expiry in ms> <ttl in
-- ms>`; the digest HIDES says that the key has no value here nor in any outer context. Its member in the
-- eviction and expiry orders is `<context>\n<key>`.

local HIDES = '-'
-- Estimated bytes of Redis for an entry besides its name, and for a value. Measured with 60,000 entries of
-- 100 bytes: 570 for both together, 640 under `lfu` (Valkey 9.1); fewer entries take less.
local OVERHEAD, VALUE_OVERHEAD = 360, 240
-- an entry with this much more left than its ttl was written before the clock was set back: it is expired
local CLOCK_MS = 5000
local AT_ONCE = 100 -- maximum number of entries that one step removes

local function entries_of(context) return head .. KEY.cache_entries .. context end

local function member_of(context, name) return context .. '\n' .. name end

local function count(what, by) call('HINCRBY', head .. KEY.cache_facts, what, by) end

local function stored_bytes() return tonumber(call('HGET', head .. KEY.cache_facts, 'bytes') or 0) end

-- Return digest, bytes of the value and expiry in ms of an entry; nil if it does not exist or is expired.
local function entry(context, name)
  local record = call('HGET', entries_of(context), name)
  if not record then return nil end
  local digest, size, expires, ttl = string.match(record, '^(%S+) (%d+) (%d+) (%d+)$')
  if tonumber(expires) <= now or tonumber(expires) - now > ttl + CLOCK_MS then return nil end
  return digest, tonumber(size), tonumber(expires)
end

local function record_of(digest, size, expires)
  return string.format('%s %d %.0f %.0f', digest, size, expires, expires - now)
end

-- Give the context a new generation: one that was never given out before, not even by a server that lost its
-- data since.
local function changed(context)
  local last = tonumber(call('HGET', head .. KEY.cache_facts, 'writes') or 0)
  local generation = string.format('%.0f', math.max(last + 1, now_us))
  call('HSET', head .. KEY.cache_facts, 'writes', generation)
  call('HSET', head .. KEY.cache_generations, context, generation)
end

local function generations(contexts)
  local known = call('HMGET', head .. KEY.cache_generations, unpack(contexts))
  for i = 1, #contexts do known[i] = known[i] or '0' end
  return known
end

-- Delete an entry, expired or not, and its value with the last entry that refers to it. Return the freed
-- bytes and its digest; nil if it does not exist.
local function unset(context, name)
  local entries, member = entries_of(context), member_of(context, name)
  local record = call('HGET', entries, name)
  if not record then return nil end
  local digest, size = string.match(record, '^(%S+) (%d+)')
  local freed = #member + OVERHEAD
  call('HDEL', entries, name)
  call('ZREM', head .. KEY.cache_order, member)
  call('ZREM', head .. KEY.cache_expiry, member)
  call('HDEL', head .. KEY.cache_uses, member)
  if digest ~= HIDES and call('HINCRBY', head .. KEY.cache_refs, digest, -1) == 0 then
    call('HDEL', head .. KEY.cache_refs, digest)
    call('HDEL', head .. KEY.cache_values, digest)
    freed = freed + size + VALUE_OVERHEAD
  end
  count('bytes', -freed)
  if call('EXISTS', entries) == 0 then
    call('ZREM', head .. KEY.cache_contexts, context)
    call('HDEL', head .. KEY.cache_generations, context)
  end
  return freed, digest
end

-- Record a use of an entry, which postpones its eviction. `lru`: by the number of the use, which no clock can
-- set back. `lfu`: by the number of its uses plus the count of the last evicted entry (LFU with dynamic
-- aging: M. Arlitt et al., "Evaluating Content Management Techniques for Web Proxy Caches", 2000), so that
-- entries that were popular once are evicted too. `ttl`: by expiry; use changes nothing.
local function used(context, name, policy, expires)
  local order, member = head .. KEY.cache_order, member_of(context, name)
  if policy == 'lru' then
    call('ZADD', order, call('HINCRBY', head .. KEY.cache_facts, 'ticks', 1), member)
  elseif policy == 'lfu' then
    local floor = tonumber(call('HGET', head .. KEY.cache_facts, 'floor') or 0)
    call('ZADD', order, floor + call('HINCRBY', head .. KEY.cache_uses, member, 1), member)
  else
    call('ZADD', order, expires, member)
  end
end

-- Write an entry in place of the former one; the caller has made room. An entry that hides an outer value is
-- never evicted: that value would come back.
local function set(context, name, digest, value, expires, policy)
  unset(context, name)
  local taken = #member_of(context, name) + OVERHEAD
  call('HSET', entries_of(context), name, record_of(digest, #value, expires))
  call('ZADD', head .. KEY.cache_expiry, expires, member_of(context, name))
  call('ZADD', head .. KEY.cache_contexts, 0, context)
  if digest ~= HIDES then
    if call('HINCRBY', head .. KEY.cache_refs, digest, 1) == 1 then
      call('HSET', head .. KEY.cache_values, digest, value)
      taken = taken + #value + VALUE_OVERHEAD
    end
    used(context, name, policy, expires)
  end
  count('bytes', taken)
end

local function split(member) return string.match(member, '^([^\n]*)\n(.*)$') end

-- Delete at most `limit` expired entries; return their number.
local function expire(limit)
  local expired = call('ZRANGEBYSCORE', head .. KEY.cache_expiry, '-inf', now, 'LIMIT', 0, limit)
  for _, member in ipairs(expired) do unset(split(member)) end
  if #expired > 0 then count('expired', #expired) end
  return #expired
end

-- Return by how many bytes an entry in place of its former one enlarges the cache, and the digest of the
-- former one (nil without one).
local function growth(context, name, digest, size)
  local grown = 0
  if digest ~= HIDES and call('HEXISTS', head .. KEY.cache_values, digest) == 0 then
    grown = size + VALUE_OVERHEAD
  end
  local record = call('HGET', entries_of(context), name)
  if not record then return grown + #member_of(context, name) + OVERHEAD end
  local former, former_size = string.match(record, '^(%S+) (%d+)')
  if former ~= HIDES and former ~= digest and call('HGET', head .. KEY.cache_refs, former) == '1' then
    grown = grown - former_size - VALUE_OVERHEAD
  end
  return grown, former
end

-- Return whether an entry is too large even for a cache without any entry that may be evicted. The names of
-- the entries that hide a key are not counted.
local function never_fits(context, name, digest, size, former, max_bytes)
  local hiding = call('ZCARD', head .. KEY.cache_expiry) - call('ZCARD', head .. KEY.cache_order)
  if former == HIDES then hiding = hiding - 1 end
  local value = digest == HIDES and 0 or size + VALUE_OVERHEAD
  return (hiding + 1) * OVERHEAD + #member_of(context, name) + value > max_bytes
end

-- Evict the entry that is next. Return the freed bytes and its digest; nothing if there is none.
local function evict(policy)
  local lowest = call('ZRANGE', head .. KEY.cache_order, 0, 0, 'WITHSCORES')
  if not lowest[1] then return nil end
  if policy == 'lfu' then call('HSET', head .. KEY.cache_facts, 'floor', lowest[2]) end
  local context, name = split(lowest[1])
  announce_if_asked('cache.evicted', first_line(name), 'context', context)
  return unset(context, name)
end

-- Evict entries until the new one fits in place of its former one, at most AT_ONCE; the former one is evicted
-- only in its turn. With `refuses`, evict nothing for an entry that never fits. Returns `room`, `more` (call
-- again), or `none`: it does not fit, or nothing is left to evict.
local function make_room(context, name, digest, size, max_bytes, policy, refuses)
  local bytes, grown, former = stored_bytes(), growth(context, name, digest, size)
  if bytes + grown <= max_bytes then return 'room' end
  if refuses and never_fits(context, name, digest, size, former, max_bytes) then return 'none' end
  local evicted, verdict = 0, 'room'
  while bytes + grown > max_bytes do
    if evicted == AT_ONCE then
      verdict = 'more'
      break
    end
    local freed, its_digest = evict(policy)
    if not freed then
      verdict = 'none'
      break
    end
    evicted, bytes = evicted + 1, bytes - freed
    -- the evicted entry had the new value, or the former one, or was the former one itself
    if its_digest == digest or its_digest == former then
      grown, former = growth(context, name, digest, size)
    end
  end
  if evicted > 0 then count('evictions', evicted) end
  return verdict
end
