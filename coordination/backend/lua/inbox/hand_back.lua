-- A reader leaves: what it has in hand goes to others at once, and counts as no delivery in vain.
-- KEYS: head    ARGV: recipient, reader, then of each: ticket, delivery (nothing: all that it has)
-- Returns: how many went back.
local box = message.box(KEYS[1], ARGV[1])
inbox.though_full(box)
local senders = {}
if #ARGV > 2 then
  for _, ticket in ipairs((inbox.own(box, ARGV[2], ARGV, 3, #ARGV))) do senders[inbox.sender_of(ticket)] = true end
else
  local lanes = call('HGETALL', box.lanes)
  for i = 1, #lanes, 2 do
    if string.match(lanes[i + 1], '^%d+ (.*)$') == ARGV[2] then senders[lanes[i]] = true end
  end
end
return #inbox.free_lanes(box, senders, {}, math.huge)
