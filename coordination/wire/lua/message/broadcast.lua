-- A message into the inbox of every subscriber of a topic, of all or of none.
-- KEYS: head    ARGV: topic, then the letter as in send.lua    Returns: how many recipients it reached.
local reached = 0
local letter = message.read(ARGV[2], ARGV[3], ARGV[4])
for _, to in ipairs(redis.call('SMEMBERS', KEYS[1] .. KEY.topic .. ARGV[1])) do
  if message.send(KEYS[1], to, letter) >= 0 then
    reached = reached + 1
  else
    redis.call('SREM', KEYS[1] .. KEY.topic .. ARGV[1], to) -- forgotten
  end
end
return reached
