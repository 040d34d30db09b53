-- Write a value that a lock guards, or refuse: a fence is current if the lock was not granted since and Redis
-- has not lost its data.
-- KEYS: head    ARGV: the lock's typed name, fence, then the value (none: only check)
-- Returns: 1, {`older`, the newest fence of the lock}, or {`unknown`, the newest fence of all}: it was never
--   given out here
local name, fence, value = unpack(ARGV)
local guard = key(KEY.guard, name)
local newest = math.max(tonumber(call('HGET', guard, 'newest') or 0), tonumber(epoch()))
local last = tonumber(call('GET', head .. KEY.fence) or 0)
local is_older = tonumber(fence) < newest
if is_older or tonumber(fence) > last then
  call('HINCRBY', guard, 'refused', 1)
  return { is_older and 'older' or 'unknown', string.format('%.0f', is_older and newest or last) }
end
call('HSET', guard, 'newest', fence)
if value then call('HSET', guard, 'value', value, 'fence', fence) end
return 1
