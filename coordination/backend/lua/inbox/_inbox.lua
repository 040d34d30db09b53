-- Deliveries of an inbox: which reader has which message in flight, and how a message returns to the queue.
-- Everything is in the table `inbox`.

local inbox = {}

do
  local DEAD_KEPT = 10000
  local NOBODY = '' -- not allowed as the name of a reader

  inbox.NOBODY = NOBODY

  -- Record that a reader of the recipient is present. `place`: its host and pid.
  function inbox.record_reader(box, reader, place)
    message.make_known(box)
    message.refresh(box.head .. KEY.readers, box.to .. ' ' .. reader .. ' ' .. place)
  end

  function inbox.sender_of(ticket) return string.match(ticket, '^%S+ %S+ %S+ (.*)$') end

  -- Parse a delivery: how often it was delivered, how often in vain, whether its reader has begun it, and the
  -- reader.
  function inbox.read_delivery(value)
    if not value then return { n = 0, failed = 0, begun = 0, reader = NOBODY } end
    local n, failed, begun, reader = string.match(value, '^(%d+) (%d+) (%d) (.*)$')
    return { n = tonumber(n), failed = tonumber(failed), begun = tonumber(begun), reader = reader }
  end

  function inbox.delivery(box, ticket) return inbox.read_delivery(call('HGET', box.deliveries, ticket)) end

  function inbox.format_delivery(d) return d.n .. ' ' .. d.failed .. ' ' .. d.begun .. ' ' .. d.reader end

  function inbox.write_delivery(box, ticket, d)
    call('HSET', box.deliveries, ticket, inbox.format_delivery(d))
  end

  -- Split tickets by holder. `args[first]` to `args[last]`: ticket and delivery number in turn. Return the
  -- tickets that the reader still has in flight, and the others.
  function inbox.own(box, reader, args, first, last)
    if first > last then return {}, {} end
    local tickets, own, lost = {}, {}, {}
    for i = first, last, 2 do tickets[#tickets + 1] = args[i] end
    for i, value in ipairs(call('HMGET', box.deliveries, unpack(tickets))) do
      local n, holder = string.match(value or '', '^(%d+) %d+ %d (.*)$')
      local list = n == args[first + 2 * i - 1] and holder == reader and own or lost
      list[#list + 1] = tickets[i]
    end
    return own, lost
  end

  -- A lane is the number of a sender's messages in flight and their reader: `<number> <reader>`. All further
  -- messages of the sender go to the same reader, which keeps their order.
  function inbox.lane(box, sender)
    local value = call('HGET', box.lanes, sender)
    if not value then return 0, nil end
    local n, reader = string.match(value, '^(%d+) (.*)$')
    return tonumber(n), reader
  end

  function inbox.shrink_lane(box, sender, by)
    local n, reader = inbox.lane(box, sender)
    if n <= by then return call('HDEL', box.lanes, sender) end
    call('HSET', box.lanes, sender, (n - by) .. ' ' .. reader)
  end

  -- Delete the messages that a reader has in flight (arguments as for inbox.own). Return the tickets that it
  -- had lost before.
  function inbox.ack(box, reader, args, first, last)
    local own, lost = inbox.own(box, reader, args, first, last)
    if #own == 0 then return lost end
    local ids, of = {}, {}
    for i, ticket in ipairs(own) do
      local offset, sender = string.match(ticket, '^(%d+) %S+ %S+ (.*)$')
      ids[i], of[sender] = offset .. '-0', (of[sender] or 0) + 1
    end
    call('XDEL', box.stream, unpack(ids))
    call('HDEL', box.deliveries, unpack(own))
    call('ZREM', box.pending, unpack(own))
    for sender, n in pairs(of) do inbox.shrink_lane(box, sender, n) end
    return lost
  end

  -- Move a message from the inbox into the stream of dead letters, from where it can be sent again.
  local function bury(box, ticket, d, why)
    local id = message.id_of(ticket)
    local fields = call('XRANGE', box.stream, id, id)[1][2]
    message.erase(box, ticket)
    call('XADD', box.head .. KEY.dead_letters, 'MAXLEN', '~', DEAD_KEPT, '*', 'to', box.to, 'ticket', ticket,
      'sent_at', fields[2], 'deliveries', d.failed, 'why', why, 'head', fields[4], 'body', fields[6])
    call('HINCRBY', box.facts, 'dead', 1)
  end

  -- Return a message to the queue, or make it a dead letter after too many deliveries. `why`: what went wrong
  -- with this delivery, if anything.
  local function give_back(box, ticket, deliveries, why)
    local d = inbox.delivery(box, ticket)
    call('ZREM', box.pending, ticket)
    if why and d.begun == 1 then d.failed = d.failed + 1 end
    if d.failed >= deliveries then return bury(box, ticket, d, why) end
    d.begun, d.reader = 0, NOBODY
    inbox.write_delivery(box, ticket, d)
    call('ZADD', box.ready, message.score_of(ticket), ticket)
  end

  -- A full Redis refuses a step at its first write that takes memory. This write takes none and comes first,
  -- so that an inbox can be read, refused and acknowledged, which frees memory.
  function inbox.allow_when_full(box) call('HDEL', box.lanes, NOBODY) end

  -- Return all messages of the senders to the queue at once, which keeps their order. `senders`: sender →
  -- true; `at_fault`: ticket → reason. One pass over the messages in flight, because there may be as many
  -- lanes as messages.
  function inbox.return_lanes(box, senders, at_fault, deliveries)
    local returned = {}
    for _, ticket in ipairs(call('ZRANGE', box.pending, 0, -1)) do
      if senders[inbox.sender_of(ticket)] then
        give_back(box, ticket, deliveries, at_fault[ticket])
        returned[#returned + 1] = ticket
      end
    end
    for sender in pairs(senders) do call('HDEL', box.lanes, sender) end
    message.wake(box)
    return returned
  end

  -- Return messages that a reader has in flight without knowing of them: the reply was lost, or another
  -- process had its name. They keep their place in the order. `known`: ticket → true.
  function inbox.return_unknown(box, reader, known)
    local lanes, its = call('HGETALL', box.lanes), {}
    for i = 1, #lanes, 2 do
      if string.match(lanes[i + 1], '^%d+ (.*)$') == reader then its[lanes[i]] = true end
    end
    if not next(its) then return end
    for _, ticket in ipairs(call('ZRANGE', box.pending, 0, -1)) do
      local sender = inbox.sender_of(ticket)
      if its[sender] and not known[ticket] then
        give_back(box, ticket, math.huge)
        inbox.shrink_lane(box, sender, 1)
      end
    end
  end

  -- Return messages whose reader was silent for the idle time, and those that waited for another try.
  function inbox.take_over(box, deliveries)
    local senders, at_fault = {}, {}
    for _, ticket in ipairs(call('ZRANGEBYSCORE', box.pending, '-inf', now)) do
      senders[inbox.sender_of(ticket)] = true
      at_fault[ticket] = 'its reader was not heard of any more: ' .. inbox.delivery(box, ticket).reader
    end
    if next(senders) then inbox.return_lanes(box, senders, at_fault, deliveries) end
  end
end
