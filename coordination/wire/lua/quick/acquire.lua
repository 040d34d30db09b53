-- Grants one exclusive lock that nobody holds, shares, waits for or guards: what lock/acquire would do, in half of its calls.
-- KEYS: head
-- ARGV: request, the lock's typed name, ttl in ms, party, then the owner's host, pid, started, thread and label
-- Returns: `fence epoch`, or nil, and nothing is done: ask lock/acquire
if redis.replicate_commands then redis.replicate_commands() end

local call, head = redis.call, KEYS[1]
local id, name, ttl, party, host, pid, started, thread, label = unpack(ARGV)
local lock, record = head .. name, head .. KEY.request .. id
local others = { head .. KEY.shares .. name, head .. KEY.queue .. name, head .. KEY.guard .. name }
if call('EXISTS', lock, record, unpack(others)) > 0 then return nil end

local last, epoch = unpack(call('MGET', head .. KEY.fence, head .. KEY.epoch))
if not epoch then return nil end -- the first lock of all
local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
local fence = string.format('%.0f', math.max((tonumber(last) or 0) + 1, now_us))
call('SET', head .. KEY.fence, fence)
call('SET', lock, id, 'NX', 'PX', ttl)
call('HSET', record, 'state', 'held', 'wants', 'x ' .. name, 'ttl', ttl, 'fence', fence, 'since', math.floor(now_us / 1000),
  'party', party, 'host', host, 'pid', pid, 'started', started, 'thread', thread, 'label', label)
call('PEXPIRE', record, ttl)
call('SADD', head .. KEY.party .. party, id)
call('SADD', head .. KEY.parties, party)
call('SADD', head .. KEY.names, name)
return fence .. ' ' .. epoch
