-- How a message comes into an inbox, for the steps of messages and for those of other rooms. The page: messages/__init__.py.
-- Everything is in the table `message` and gets `head`, the namespace with its colon; the names of keys (KEY.…) come from
-- backend/keys.py. A ticket, `<offset> <priority> <end> <sender>`, stands for a message in all zsets and hashes of an inbox; the end is
-- `t` and when its ttl is over, or `k` and when it was kept as long as anything is, in ms.

local message = {}

do
  local PRIORITY_SPAN = 2 ^ 40 -- offsets below it: by priority, then by arrival, in one score that a double holds exactly
  local LOOKED_AT = 1000 -- tickets that are looked at when an inbox is tidied: the first ones are the oldest
  local TIDY_EVERY_MS = 1000
  local SEEN = 10000 -- numbers of callers' own that an inbox remembers one by one
  local SAID_AGAIN_MS = 2000 -- that a recipient is there is written at most so often: an idle one costs the disk little

  local BOX = {
    __index = function(box, part)
      local key = box.head .. KEY.inbox .. part .. ':' .. box.to
      box[part] = key
      return key
    end,
  }

  -- The keys of one inbox (stream, ready, pending, deliveries, lanes, facts, seen), made when they are asked for.
  function message.box(head, to) return setmetatable({ head = head, to = to }, BOX) end

  function message.said_again(zset, member)
    local last = call('ZSCORE', zset, member)
    if not last or tonumber(last) < now - SAID_AGAIN_MS then call('ZADD', zset, now, member) end
    return last
  end

  -- From now on the recipient is known, and what is sent to it is kept.
  function message.meet(box)
    if message.said_again(box.head .. KEY.recipients, box.to) then return end
    call('HSETNX', box.facts, 'epoch', string.format('%.0f', now_us))
  end

  function message.score_of(ticket)
    local offset, priority = string.match(ticket, '^(%d+) (%S+)')
    return string.format('%.0f', tonumber(offset) - tonumber(priority) * PRIORITY_SPAN)
  end

  function message.id_of(ticket) return string.match(ticket, '^%d+') .. '-0' end

  -- Nothing is left of the message but the memory of its sender and sequence.
  function message.erase(box, ticket)
    call('XDEL', box.stream, message.id_of(ticket))
    call('HDEL', box.deliveries, ticket)
  end

  -- Whether it is too late to deliver it: `expired`, or `trimmed` (which its recipient is told), or nothing.
  local function over(ticket)
    local why, at = string.match(ticket, '^%S+ %S+ (%a)(%d+)')
    return tonumber(at) <= now and (why == 't' and 'expired' or 'trimmed')
  end

  local function remove(box, ticket, counted)
    call('ZREM', box.ready, ticket)
    message.erase(box, ticket)
    call('HINCRBY', box.facts, counted, 1)
  end

  -- A waiting message goes if it is over; whether it did.
  function message.drop_if_over(box, ticket)
    local word = over(ticket)
    if word then remove(box, ticket, word) end
    return word
  end

  function message.tidy(box)
    for _, ticket in ipairs(call('ZRANGE', box.ready, 0, LOOKED_AT - 1)) do message.drop_if_over(box, ticket) end
  end

  -- Room for one more: of what is least urgent the oldest goes, and is counted, for its recipient is told.
  local function make_room(box, limit)
    if tonumber(call('HGET', box.facts, 'tidied') or 0) < now - TIDY_EVERY_MS then
      call('HSET', box.facts, 'tidied', now)
      message.tidy(box)
      if call('ZCARD', box.ready) <= limit then return end
    end
    local last = call('ZREVRANGE', box.ready, 0, 0, 'WITHSCORES')
    local class = math.floor(tonumber(last[2]) / PRIORITY_SPAN) * PRIORITY_SPAN
    local oldest = call('ZRANGEBYSCORE', box.ready, string.format('%.0f', class), '+inf', 'LIMIT', 0, 1)[1]
    remove(box, oldest, over(oldest) or 'trimmed')
  end

  function message.wake(box)
    if call('HDEL', box.facts, 'waits') == 1 then call('PUBLISH', box.head .. KEY.mail .. box.to, '') end
  end

  -- What comes into an inbox: `kind` is its type, `body` the payload as JSON, `limit` and `keep_ms` are those of an inbox.
  -- A `sequence` is `<n>` or `<mark>.<n>`.
  function message.letter(sender, sequence, kind, body, ttl_ms, limit, keep_ms)
    return message.read(sender .. '/' .. sequence .. ' ' .. kind .. ' - 1', body, ttl_ms .. ' 0 ' .. limit .. ' ' .. keep_ms)
  end

  -- The same, from few words. `top`: `<sender>/<sequence> <type> <reply_to or -> <1 or 0: is it acknowledged>`. `terms`:
  -- `<ttl in ms, 0: as long as anything is kept> <priority> <limit of an inbox> <retention in ms>`.
  function message.read(top, body, terms)
    local ttl_ms, priority, limit, keep_ms = string.match(terms, '^(%d+) (%S+) (%d+) (%d+)$')
    ttl_ms, keep_ms = tonumber(ttl_ms), tonumber(keep_ms)
    local sender, sequence = string.match(top, '^(%S+)/(%S+)')
    return {
      top = top, body = body, sender = sender, sequence = sequence, forget = string.sub(top, -1) == '0',
      priority = priority, limit = tonumber(limit), keep_ms = keep_ms,
      over = ttl_ms > 0 and ttl_ms <= keep_ms and 't' .. now + ttl_ms or 'k' .. now + keep_ms,
    }
  end

  local function keep(box, letter, offset)
    local ticket = offset .. ' ' .. letter.priority .. ' ' .. letter.over .. ' ' .. letter.sender
    if letter.forget then
      call('XADD', box.stream, offset .. '-0', 'at', now, 'head', letter.top, 'body', letter.body, 'forget', 1)
    else
      call('XADD', box.stream, offset .. '-0', 'at', now, 'head', letter.top, 'body', letter.body)
    end
    call('ZADD', box.ready, letter.priority == '0' and offset or message.score_of(ticket), ticket)
  end

  -- Whether a number that is not greater than its sender's last was sent before. Those with a mark grow, one process has them
  -- all; a caller's own may come late, of several threads, and are lost only if they are sent twice.
  local function sent_before(box, letter, mark)
    return mark ~= '' or call('ZSCORE', box.seen, letter.sender .. '/' .. letter.sequence) or call('ZCARD', box.seen) >= SEEN
  end

  local function remember(box, letter, offset)
    call('ZADD', box.seen, offset, letter.sender .. '/' .. letter.sequence)
    call('ZREMRANGEBYRANK', box.seen, 0, -SEEN - 1)
    call('PEXPIRE', box.seen, letter.keep_ms)
  end

  -- A letter into the inbox of one recipient.
  -- Returns: its offset; 0 where the same sender sent that sequence before; -1 where nobody knows the recipient.
  function message.send(head, to, letter)
    local box = message.box(head, to)
    local mark, n = string.match(letter.sequence or '', '^(.-)(%d*)$')
    local last = 'last ' .. letter.sender .. '/' .. mark
    local known = call('HMGET', box.facts, 'epoch', 'waits', 'seq', last)
    if not known[1] then return -1 end
    local offset = (tonumber(known[3]) or 0) + 1
    if n == '' then
      call('HSET', box.facts, 'seq', offset)
    else
      local greatest = known[4] and string.match(known[4], '^%d+') or n
      local late = known[4] and tonumber(n) <= tonumber(greatest)
      if late and sent_before(box, letter, mark) then return 0 end
      call('HSET', box.facts, 'seq', offset, last, (late and greatest or n) .. ' ' .. now)
      if mark == '' then remember(box, letter, offset) end
    end
    keep(box, letter, offset)
    if call('ZCARD', box.ready) > letter.limit then make_room(box, letter.limit) end
    if known[2] then message.wake(box) end
    return offset
  end
end
