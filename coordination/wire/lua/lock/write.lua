-- Writes to what a lock guards, or refuses: a fence is newest where nobody was granted the lock after it, and Redis has not lost its data since.
-- KEYS: head    ARGV: the lock's typed name, fence, then the value (none: it is only checked)
-- Returns: 1, or {the newest fence} for an older one
head = KEYS[1]
local name, fence, value = unpack(ARGV)
local guard = key(KEY.guard, name)
local newest = math.max(tonumber(call('HGET', guard, 'newest') or 0), tonumber(epoch()))
if tonumber(fence) < newest then
  call('HINCRBY', guard, 'refused', 1)
  return { string.format('%.0f', newest) }
end
call('HSET', guard, 'newest', fence)
if value then call('HSET', guard, 'value', value, 'fence', fence) end
return 1
