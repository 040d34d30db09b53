-- Grants one exclusive lock that nobody holds, shares, waits for or guards: what lock/acquire would do, in half of its calls.
-- KEYS: lock, its shares, its queue, its guard, the request's record, its party, parties, names, fence,
--   epoch
-- ARGV: request, the lock's typed name, ttl in ms, party, then field and value of what else the record has
-- Returns: {`held`, fence, epoch}, or nil, and nothing is done: ask lock/acquire
if redis.replicate_commands then redis.replicate_commands() end

local call = redis.call
if call('EXISTS', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]) > 0 then return nil end
local known = call('MGET', KEYS[9], KEYS[10])
if not known[2] then return nil end -- the first lock of all
local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
local fence = string.format('%.0f', math.max((tonumber(known[1]) or 0) + 1, now_us))
call('SET', KEYS[9], fence)
call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[3])
call('HSET', KEYS[5], 'fence', fence, 'since', math.floor(now_us / 1000), 'party', unpack(ARGV, 4))
call('PEXPIRE', KEYS[5], ARGV[3])
call('SADD', KEYS[6], ARGV[1])
call('SADD', KEYS[7], ARGV[4])
call('SADD', KEYS[8], ARGV[2])
return { 'held', fence, known[2] }
