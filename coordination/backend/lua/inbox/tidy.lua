-- An inbox that nobody may be reading: what is over its time goes, and what a dead reader had waits for the next.
-- KEYS: head    ARGV: recipient, deliveries until it is dead, ms that a sender's last number is known
-- Returns: how many expired, how many were trimmed.
local box = message.box(KEYS[1], ARGV[1])
local function counts()
  local c = call('HMGET', box.facts, 'expired', 'trimmed')
  return tonumber(c[1] or 0), tonumber(c[2] or 0)
end
local expired, trimmed = counts()
inbox.though_full(box)
inbox.take_over(box, tonumber(ARGV[2]))
message.tidy(box)
local facts = call('HGETALL', box.facts)
for i = 1, #facts, 2 do -- who has not sent anything for so long does not send it twice
  local at = string.match(facts[i], '^last ') and string.match(facts[i + 1], ' (%d+)$')
  if at and tonumber(at) <= now - ARGV[3] then call('HDEL', box.facts, facts[i]) end
end
local now_expired, now_trimmed = counts()
return { now_expired - expired, now_trimmed - trimmed }
