-- What the steps of messages share, and what a step of another room may use to send one. The page: messages/__init__.py.
-- Everything is in the table `message` and gets `head`, the namespace with its colon; the names of keys (table KEY) come from
-- wire/keys.py. A ticket, `<offset> <priority> <sender>`, stands for a message in all zsets and hashes of an inbox.

if redis.replicate_commands then redis.replicate_commands() end -- Redis 6.2 needs it before TIME; later ones ignore it

local message = {}

do
  local call = redis.call
  local time = call('TIME')
  local now_us = time[1] * 1000000 + time[2]
  local now = math.floor(now_us / 1000)
  local PRIORITY_SPAN = 2 ^ 40 -- offsets below it: by priority, then by arrival, in one score that a double holds exactly
  local SEEN_KEPT, SEEN_EVERY = 1000, 64 -- sender and sequence of so many are kept per inbox; cut now and then
  local DEAD_KEPT = 10000
  local SAID_AGAIN_MS = 2000 -- that a reader is there is written at most so often: an idle one costs the disk nothing else
  local NOBODY = '-'

  message.now = now
  message.NOBODY = NOBODY

  function message.box(head, to)
    return {
      head = head, to = to, stream = head .. KEY.inbox .. to, ready = head .. KEY.inbox_ready .. to,
      pending = head .. KEY.inbox_pending .. to, deliveries = head .. KEY.inbox_deliveries .. to,
      lanes = head .. KEY.inbox_lanes .. to, facts = head .. KEY.inbox_facts .. to, seen = head .. KEY.inbox_seen .. to,
      expiry = head .. KEY.inbox_expiry .. to, aging = head .. KEY.inbox_aging .. to,
    }
  end

  function message.keys(box)
    return {
      box.stream, box.ready, box.pending, box.deliveries, box.lanes, box.facts, box.seen, box.expiry, box.aging,
    }
  end

  local function said_again(zset, member)
    local last = call('ZSCORE', zset, member)
    if not last or tonumber(last) < now - SAID_AGAIN_MS then call('ZADD', zset, now, member) end
    return last
  end

  -- From now on the recipient is known, and what is sent to it is kept.
  function message.meet(box)
    if said_again(box.head .. KEY.recipients, box.to) then return end
    call('HSETNX', box.facts, 'epoch', string.format('%.0f', now_us))
  end

  function message.see(box, reader, place)
    said_again(box.head .. KEY.readers, box.to .. ' ' .. reader .. ' ' .. place)
  end

  function message.sender_of(ticket) return string.match(ticket, '^%S+ %S+ (.*)$') end

  local function score_of(ticket)
    local offset, priority = string.match(ticket, '^(%d+) (%S+)')
    return string.format('%.0f', tonumber(offset) - tonumber(priority) * PRIORITY_SPAN)
  end

  local function id_of(ticket) return string.match(ticket, '^%d+') .. '-0' end

  -- Nothing is left of the message but the memory of its sender and sequence.
  function message.erase(box, ticket)
    call('XDEL', box.stream, id_of(ticket))
    call('ZREM', box.expiry, ticket)
    call('ZREM', box.aging, ticket)
    call('HDEL', box.deliveries, ticket)
  end

  local function count(box, what) call('HINCRBY', box.facts, what, 1) end

  -- What is over its ttl, or was kept as long as anything is. What a reader has in hand stays with it.
  function message.tidy(box)
    for _, ticket in ipairs(call('ZRANGEBYSCORE', box.expiry, '-inf', now)) do
      if call('ZREM', box.ready, ticket) == 1 then
        message.erase(box, ticket)
        count(box, 'expired')
      end
    end
    for _, ticket in ipairs(call('ZRANGEBYSCORE', box.aging, '-inf', now)) do
      if call('ZREM', box.ready, ticket) == 1 then
        message.erase(box, ticket)
        count(box, 'trimmed')
      end
    end
  end

  -- Room for one more: of what is least urgent the oldest goes, and is counted, for its recipient is told.
  local function make_room(box, limit)
    message.tidy(box)
    if call('ZCARD', box.ready) <= limit then return end
    local last = call('ZREVRANGE', box.ready, 0, 0, 'WITHSCORES')
    local class = math.floor(tonumber(last[2]) / PRIORITY_SPAN) * PRIORITY_SPAN
    local victim = call('ZRANGEBYSCORE', box.ready, string.format('%.0f', class), '+inf', 'LIMIT', 0, 1)[1]
    call('ZREM', box.ready, victim)
    message.erase(box, victim)
    count(box, 'trimmed')
  end

  local function wake(box)
    if call('HDEL', box.facts, 'waits') == 1 then call('PUBLISH', box.head .. KEY.mail .. box.to, '') end
  end

  local function keep(box, letter, offset)
    local ticket = string.format('%.0f %d %s', offset, letter.priority, letter.from)
    local entry = { 'at', now, 'head', letter.head, 'body', letter.body }
    if letter.forget then entry[#entry + 1], entry[#entry + 2] = 'forget', 1 end
    call('XADD', box.stream, string.format('%.0f-0', offset), unpack(entry))
    call('ZADD', box.ready, score_of(ticket), ticket)
    local mortal = letter.ttl_ms > 0 and letter.ttl_ms <= letter.keep_ms
    call('ZADD', mortal and box.expiry or box.aging, now + (mortal and letter.ttl_ms or letter.keep_ms), ticket)
  end

  -- `top` and `body` are JSON: {id, type, reply_to, ack} and the payload. `ttl_ms` 0: as long as anything is kept. An empty
  -- sequence is never a repetition. `limit` and `keep_ms` are those of an inbox; `forget` is '1' where nobody acknowledges it.
  function message.letter(from, sequence, top, body, ttl_ms, priority, limit, keep_ms, forget)
    return {
      from = from, sequence = sequence, head = top, body = body, ttl_ms = tonumber(ttl_ms), priority = tonumber(priority),
      limit = tonumber(limit), keep_ms = tonumber(keep_ms), forget = forget == '1',
    }
  end

  -- A letter into the inbox of one recipient.
  -- Returns: its offset; 0 where the same sender sent the same sequence before; -1 where nobody knows the recipient.
  function message.send(head, to, letter)
    if not call('ZSCORE', head .. KEY.recipients, to) then return -1 end
    local box = message.box(head, to)
    local once = letter.from .. ' ' .. letter.sequence
    if letter.sequence ~= '' and call('ZSCORE', box.seen, once) then return 0 end
    local offset = call('HINCRBY', box.facts, 'seq', 1)
    if letter.sequence ~= '' then
      call('ZADD', box.seen, offset, once)
      if offset % SEEN_EVERY == 0 then call('ZREMRANGEBYRANK', box.seen, 0, -SEEN_KEPT - 1) end
    end
    keep(box, letter, offset)
    if call('ZCARD', box.ready) > letter.limit then make_room(box, letter.limit) end
    wake(box)
    return offset
  end

  -- A delivery: how often it was handed out, how often in vain, whether its reader has begun it, and who that is.
  function message.delivery(box, ticket)
    local value = call('HGET', box.deliveries, ticket)
    if not value then return { n = 0, failed = 0, begun = 0, reader = NOBODY } end
    local n, failed, begun, reader = string.match(value, '^(%d+) (%d+) (%d) (.*)$')
    return { n = tonumber(n), failed = tonumber(failed), begun = tonumber(begun), reader = reader }
  end

  function message.note(box, ticket, d)
    call('HSET', box.deliveries, ticket, string.format('%d %d %d %s', d.n, d.failed, d.begun, d.reader))
  end

  -- A lane is a sender's messages in hand: `<how many> <reader>`. Who has it gets all that the sender sends meanwhile.
  function message.lane(box, sender)
    local value = call('HGET', box.lanes, sender)
    if not value then return 0, nil end
    local n, reader = string.match(value, '^(%d+) (.*)$')
    return tonumber(n), reader
  end

  function message.narrow(box, sender)
    local n, reader = message.lane(box, sender)
    if n <= 1 then return call('HDEL', box.lanes, sender) end
    call('HSET', box.lanes, sender, string.format('%d %s', n - 1, reader))
  end

  -- Out of every list of the living, into the stream of the dead, from where it can be sent again.
  local function bury(box, ticket, d, why)
    local entry = call('XRANGE', box.stream, id_of(ticket), id_of(ticket))[1]
    message.erase(box, ticket)
    if not entry then return end
    local f = entry[2]
    call('XADD', box.head .. KEY.dead_letters, 'MAXLEN', '~', DEAD_KEPT, '*', 'to', box.to,
      'ticket', ticket, 'sent_at', f[2], 'deliveries', d.failed, 'why', why, 'head', f[4], 'body', f[6])
    count(box, 'dead')
  end

  -- It waits for its next delivery again, behind none of its sender's. Returns whether it may: after `deliveries` in vain it is dead.
  function message.give_back(box, ticket, failed, deliveries, why)
    local d = message.delivery(box, ticket)
    call('ZREM', box.pending, ticket)
    if failed and d.begun == 1 then d.failed = d.failed + 1 end
    if d.failed >= deliveries then
      bury(box, ticket, d, why)
      return false
    end
    d.begun, d.reader = 0, NOBODY
    message.note(box, ticket, d)
    call('ZADD', box.ready, score_of(ticket), ticket)
    return true
  end

  -- What a reader has in hand of one sender goes back all together, or its order would be lost. `at_fault` → why.
  function message.free_lane(box, sender, at_fault, deliveries)
    local returned = {}
    for _, ticket in ipairs(call('ZRANGE', box.pending, 0, -1)) do
      if message.sender_of(ticket) == sender then
        message.give_back(box, ticket, at_fault[ticket], deliveries, at_fault[ticket] or '')
        returned[#returned + 1] = ticket
      end
    end
    call('HDEL', box.lanes, sender)
    wake(box)
    return returned
  end

  -- Who has not been heard of about a message for the idle time has it no longer.
  function message.take_over(box, deliveries)
    local senders, at_fault = {}, {}
    for _, ticket in ipairs(call('ZRANGEBYSCORE', box.pending, '-inf', now)) do
      senders[message.sender_of(ticket)] = true
      at_fault[ticket] = 'its reader was not heard of any more: ' .. message.delivery(box, ticket).reader
    end
    for sender in pairs(senders) do message.free_lane(box, sender, at_fault, deliveries) end
  end
end
