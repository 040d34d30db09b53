-- Who has which message of an inbox in hand, and how it gets back. Everything is in the table `inbox`.

local inbox = {}

do
  local DEAD_KEPT = 10000
  local NOBODY = '' -- no reader can be called that

  inbox.NOBODY = NOBODY

  -- A reader of the recipient is there. `place`: its host and pid.
  function inbox.see(box, reader, place)
    message.meet(box)
    message.said_again(box.head .. KEY.readers, box.to .. ' ' .. reader .. ' ' .. place)
  end

  function inbox.sender_of(ticket) return string.match(ticket, '^%S+ %S+ %S+ (.*)$') end

  -- A delivery: how often it was handed out, how often in vain, whether its reader has begun it, and who that is.
  function inbox.read_delivery(value)
    if not value then return { n = 0, failed = 0, begun = 0, reader = NOBODY } end
    local n, failed, begun, reader = string.match(value, '^(%d+) (%d+) (%d) (.*)$')
    return { n = tonumber(n), failed = tonumber(failed), begun = tonumber(begun), reader = reader }
  end

  function inbox.delivery(box, ticket) return inbox.read_delivery(call('HGET', box.deliveries, ticket)) end

  function inbox.written(d) return d.n .. ' ' .. d.failed .. ' ' .. d.begun .. ' ' .. d.reader end

  function inbox.note(box, ticket, d) call('HSET', box.deliveries, ticket, inbox.written(d)) end

  -- Of tickets and deliveries in turn, args[first] to args[last]: those that are the reader's own still, and the others.
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

  -- A lane is a sender's messages in hand: `<how many> <reader>`. Who has it gets all that the sender sends meanwhile.
  function inbox.lane(box, sender)
    local value = call('HGET', box.lanes, sender)
    if not value then return 0, nil end
    local n, reader = string.match(value, '^(%d+) (.*)$')
    return tonumber(n), reader
  end

  function inbox.narrow(box, sender, by)
    local n, reader = inbox.lane(box, sender)
    if n <= by then return call('HDEL', box.lanes, sender) end
    call('HSET', box.lanes, sender, (n - by) .. ' ' .. reader)
  end

  -- The reader is done with messages that it has in hand (as for inbox.own): nothing is left of them. Returns the tickets of
  -- those that were not its own any more.
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
    for sender, n in pairs(of) do inbox.narrow(box, sender, n) end
    return lost
  end

  -- Out of every list of the living, into the stream of the dead, from where it can be sent again.
  local function bury(box, ticket, d, why)
    local id = message.id_of(ticket)
    local fields = call('XRANGE', box.stream, id, id)[1][2]
    message.erase(box, ticket)
    call('XADD', box.head .. KEY.dead_letters, 'MAXLEN', '~', DEAD_KEPT, '*', 'to', box.to, 'ticket', ticket,
      'sent_at', fields[2], 'deliveries', d.failed, 'why', why, 'head', fields[4], 'body', fields[6])
    call('HINCRBY', box.facts, 'dead', 1)
  end

  -- It waits for its next delivery, or is dead after so many in vain. `why` says what was wrong with this one, if anything was.
  local function give_back(box, ticket, deliveries, why)
    local d = inbox.delivery(box, ticket)
    call('ZREM', box.pending, ticket)
    if why and d.begun == 1 then d.failed = d.failed + 1 end
    if d.failed >= deliveries then return bury(box, ticket, d, why) end
    d.begun, d.reader = 0, NOBODY
    inbox.note(box, ticket, d)
    call('ZADD', box.ready, message.score_of(ticket), ticket)
  end

  -- A Redis that is full refuses a step at its first write that takes room. One that takes none comes before it, so that what
  -- is in an inbox can be read, refused and acknowledged: that is what makes room.
  function inbox.though_full(box) call('HDEL', box.lanes, NOBODY) end

  -- What is in hand of a sender goes back all together, or its order would be lost. `senders`: sender → true;
  -- `at_fault`: ticket → why. All in one look at what is in hand: lanes may be as many as messages.
  function inbox.free_lanes(box, senders, at_fault, deliveries)
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

  -- What a reader has in hand without knowing of it: the answer that gave it was lost, or a process of its name is gone. It
  -- waits again, before what came later. `known`: ticket → true.
  function inbox.free_unknown(box, reader, known)
    local lanes, its = call('HGETALL', box.lanes), {}
    for i = 1, #lanes, 2 do
      if string.match(lanes[i + 1], '^%d+ (.*)$') == reader then its[lanes[i]] = true end
    end
    if not next(its) then return end
    for _, ticket in ipairs(call('ZRANGE', box.pending, 0, -1)) do
      local sender = inbox.sender_of(ticket)
      if its[sender] and not known[ticket] then
        give_back(box, ticket, math.huge)
        inbox.narrow(box, sender, 1)
      end
    end
  end

  -- Who has not been heard of about a message for the idle time has it no longer; what waits for another try has waited.
  function inbox.take_over(box, deliveries)
    local senders, at_fault = {}, {}
    for _, ticket in ipairs(call('ZRANGEBYSCORE', box.pending, '-inf', now)) do
      senders[inbox.sender_of(ticket)] = true
      at_fault[ticket] = 'its reader was not heard of any more: ' .. inbox.delivery(box, ticket).reader
    end
    if next(senders) then inbox.free_lanes(box, senders, at_fault, deliveries) end
  end
end
