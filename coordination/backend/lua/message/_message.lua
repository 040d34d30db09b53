-- Sending a message to an inbox, for the steps of messages and of other packages. Design:
-- messages/__init__.py.
-- Everything is in the table `message` and takes `head`, the namespace with its colon; the names of keys
-- (KEY.…) come from backend/keys.py. A ticket, `<offset> <priority> <end> <sender>`, stands for a message in
-- all sorted sets and hashes of an inbox. Its end is `t` and the ms when its ttl is over, or `k` and the ms
-- when the retention of the inbox is over.

local message = {}

do
  -- offsets are below it, so one score orders by priority, then by arrival, and a double holds it exactly
  local PRIORITY_SPAN = 2 ^ 40
  local SCAN_LIMIT = 1000 -- tickets read when an inbox is tidied; the first ones are the oldest
  local TIDY_EVERY_MS = 1000
  local SEEN = 10000 -- numbers given by callers that an inbox remembers one by one
  -- minimal time between two writes of a recipient's presence: an idle one costs few writes
  local PRESENCE_MS = 2000

  local BOX = {
    __index = function(box, part)
      local key = box.head .. KEY.inbox .. part .. ':' .. box.to
      box[part] = key
      return key
    end,
  }

  -- The keys of one inbox (stream, ready, pending, deliveries, lanes, facts, seen), built on first use.
  function message.box(head, to) return setmetatable({ head = head, to = to }, BOX) end

  function message.refresh(zset, member)
    local last = call('ZSCORE', zset, member)
    if not last or tonumber(last) < now - PRESENCE_MS then call('ZADD', zset, now, member) end
    return last
  end

  -- Make the recipient known: from now on its messages are kept.
  function message.make_known(box)
    if message.refresh(box.head .. KEY.recipients, box.to) then return end
    call('HSETNX', box.facts, 'epoch', string.format('%.0f', now_us))
  end

  function message.score_of(ticket)
    local offset, priority = string.match(ticket, '^(%d+) (%S+)')
    return string.format('%.0f', tonumber(offset) - tonumber(priority) * PRIORITY_SPAN)
  end

  function message.id_of(ticket) return string.match(ticket, '^%d+') .. '-0' end

  -- Delete a message; only the number of its sender is remembered.
  function message.erase(box, ticket)
    call('XDEL', box.stream, message.id_of(ticket))
    call('HDEL', box.deliveries, ticket)
  end

  -- Return `expired` or `trimmed` (reported to the recipient) if a message is too old to be delivered, else
  -- false.
  local function outdated(ticket)
    local why, at = string.match(ticket, '^%S+ %S+ (%a)(%d+)')
    return tonumber(at) <= now and (why == 't' and 'expired' or 'trimmed')
  end

  local function remove(box, ticket, counted)
    call('ZREM', box.ready, ticket)
    message.erase(box, ticket)
    call('HINCRBY', box.facts, counted, 1)
  end

  -- Delete a waiting message if it is too old; return whether it was.
  function message.delete_if_over(box, ticket)
    local word = outdated(ticket)
    if word then remove(box, ticket, word) end
    return word
  end

  function message.tidy(box)
    for _, ticket in ipairs(call('ZRANGE', box.ready, 0, SCAN_LIMIT - 1)) do
      message.delete_if_over(box, ticket)
    end
  end

  -- Make room for one message: delete the oldest of the lowest priority and count it, because the recipient
  -- gets a report.
  local function make_room(box, limit)
    if tonumber(call('HGET', box.facts, 'tidied') or 0) < now - TIDY_EVERY_MS then
      call('HSET', box.facts, 'tidied', now)
      message.tidy(box)
      if call('ZCARD', box.ready) <= limit then return end
    end
    local last = call('ZREVRANGE', box.ready, 0, 0, 'WITHSCORES')
    local class = math.floor(tonumber(last[2]) / PRIORITY_SPAN) * PRIORITY_SPAN
    local oldest = call('ZRANGEBYSCORE', box.ready, string.format('%.0f', class), '+inf', 'LIMIT', 0, 1)[1]
    remove(box, oldest, outdated(oldest) or 'trimmed')
  end

  function message.wake(box)
    if call('HDEL', box.facts, 'waits') == 1 then call('PUBLISH', box.head .. KEY.mail .. box.to, '') end
  end

  -- Return a message for an inbox. `kind`: its type; `body`: the payload as JSON; `limit` and `keep_ms`:
  -- those of the inbox. A `sequence` is `<n>` or `<mark>.<n>`.
  function message.new(sender, sequence, kind, body, ttl_ms, limit, keep_ms)
    local top = sender .. '/' .. sequence .. ' ' .. kind .. ' - 1'
    return message.read(top, body, ttl_ms .. ' 0 ' .. limit .. ' ' .. keep_ms)
  end

  -- Parse a message. `top`: `<sender>/<sequence> <type> <reply_to or -> <1 or 0: whether it is
  -- acknowledged>`. `terms`: `<ttl in ms, 0: the retention> <priority> <limit of an inbox> <retention in
  -- ms>`.
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

  local function store(box, outgoing, offset)
    local ticket = offset .. ' ' .. outgoing.priority .. ' ' .. outgoing.over .. ' ' .. outgoing.sender
    if outgoing.forget then
      local id = offset .. '-0'
      call('XADD', box.stream, id, 'at', now, 'head', outgoing.top, 'body', outgoing.body, 'forget', 1)
    else
      call('XADD', box.stream, offset .. '-0', 'at', now, 'head', outgoing.top, 'body', outgoing.body)
    end
    call('ZADD', box.ready, outgoing.priority == '0' and offset or message.score_of(ticket), ticket)
  end

  -- Return whether a number not greater than its sender's last was sent before. Numbers with a mark grow
  -- within one process, so such a one was. Numbers given by a caller with several threads may come late; they
  -- are remembered one by one.
  local function sent_before(box, outgoing, mark)
    return mark ~= '' or call('ZSCORE', box.seen, outgoing.sender .. '/' .. outgoing.sequence)
      or call('ZCARD', box.seen) >= SEEN
  end

  local function remember(box, outgoing, offset)
    call('ZADD', box.seen, offset, outgoing.sender .. '/' .. outgoing.sequence)
    call('ZREMRANGEBYRANK', box.seen, 0, -SEEN - 1)
    call('PEXPIRE', box.seen, outgoing.keep_ms)
  end

  -- Put a message into the inbox of one recipient.
  -- Returns: its offset; 0 if the same sender sent that sequence before; -1 for an unknown recipient.
  function message.send(head, to, outgoing)
    local box = message.box(head, to)
    local mark, n = string.match(outgoing.sequence or '', '^(.-)(%d*)$')
    local last = 'last ' .. outgoing.sender .. '/' .. mark
    local known = call('HMGET', box.facts, 'epoch', 'waits', 'seq', last)
    if not known[1] then return -1 end
    local offset = (tonumber(known[3]) or 0) + 1
    if n == '' then
      call('HSET', box.facts, 'seq', offset)
    else
      local greatest = known[4] and string.match(known[4], '^%d+') or n
      local late = known[4] and tonumber(n) <= tonumber(greatest)
      if late and sent_before(box, outgoing, mark) then return 0 end
      call('HSET', box.facts, 'seq', offset, last, (late and greatest or n) .. ' ' .. now)
      if mark == '' then remember(box, outgoing, offset) end
    end
    store(box, outgoing, offset)
    if call('ZCARD', box.ready) > outgoing.limit then make_room(box, outgoing.limit) end
    if known[2] then message.wake(box) end
    return offset
  end
end
