-- Put a message into the inbox of every subscriber of a topic, of all or none; optionally publish it to those
-- who listen now.
-- KEYS: head    ARGV: topic, the message as in send.lua, 1 to publish it    Returns: the number of receivers.
local reached = 0
local outgoing = message.read(ARGV[2], ARGV[3], ARGV[4])
for _, to in ipairs(call('SMEMBERS', KEYS[1] .. KEY.topic .. ARGV[1])) do
  if message.send(KEYS[1], to, outgoing) >= 0 then
    reached = reached + 1
  else
    call('SREM', KEYS[1] .. KEY.topic .. ARGV[1], to) -- the recipient was forgotten
  end
end
if ARGV[5] == '1' then
  local head = string.format('%.0f', now) .. ' ' .. string.match(outgoing.top, '^%S+ %S+')
  reached = reached + call('PUBLISH', KEYS[1] .. KEY.live .. ARGV[1], head .. '\n' .. outgoing.body)
end
return reached
