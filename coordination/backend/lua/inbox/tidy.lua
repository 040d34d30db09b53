-- Clean an inbox that may have no reader: delete expired messages, and return those of dead readers.
-- KEYS: head    ARGV: recipient, deliveries before a message is dead, ms for which a sender's last number is
--   remembered
-- Returns: the number of expired and of trimmed messages.
local box = message.box(KEYS[1], ARGV[1])
local function counts()
  local c = call('HMGET', box.facts, 'expired', 'trimmed')
  return tonumber(c[1] or 0), tonumber(c[2] or 0)
end
local expired, trimmed = counts()
inbox.allow_when_full(box)
inbox.take_over(box, tonumber(ARGV[2]))
message.tidy(box)
local facts = call('HGETALL', box.facts)
for i = 1, #facts, 2 do -- a sender silent for so long does not repeat a message
  local at = string.match(facts[i], '^last ') and string.match(facts[i + 1], ' (%d+)$')
  if at and tonumber(at) <= now - ARGV[3] then call('HDEL', box.facts, facts[i]) end
end
local now_expired, now_trimmed = counts()
return { now_expired - expired, now_trimmed - trimmed }
