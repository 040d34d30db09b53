-- Return messages of a reader that stops. Others get them at once, and it counts as no failed delivery.
-- KEYS: head    ARGV: recipient, reader, then for each message: ticket, delivery (none: all of the reader)
-- Returns: the number of returned messages.
local box = message.box(KEYS[1], ARGV[1])
inbox.allow_when_full(box)
local senders = {}
if #ARGV > 2 then
  local own = inbox.own(box, ARGV[2], ARGV, 3, #ARGV)
  for _, ticket in ipairs(own) do senders[inbox.sender_of(ticket)] = true end
else
  local lanes = call('HGETALL', box.lanes)
  for i = 1, #lanes, 2 do
    if string.match(lanes[i + 1], '^%d+ (.*)$') == ARGV[2] then senders[lanes[i]] = true end
  end
end
return #inbox.return_lanes(box, senders, {}, math.huge)
