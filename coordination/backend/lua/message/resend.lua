-- Send a dead letter to its recipient again as a new message.
-- KEYS: head    ARGV: id of the dead letter, ttl in ms, limit of an inbox, its retention in ms (terms without
--   the priority)
-- Returns: `sent` and the message's id; `unknown` and the recipient; `none` and the id.
local entry = call('XRANGE', KEYS[1] .. KEY.dead_letters, ARGV[1], ARGV[1])[1]
if not entry then return { 'none', ARGV[1] } end
local f = {}
for i = 1, #entry[2], 2 do f[entry[2][i]] = entry[2][i + 1] end
local terms = ARGV[2] .. ' ' .. string.match(f.ticket, '^%d+ (%S+)') .. ' ' .. ARGV[3] .. ' ' .. ARGV[4]
local outgoing = message.read(f.head, f.body, terms)
outgoing.sequence = nil -- its sender's number was used up by the first message
if message.send(KEYS[1], f.to, outgoing) < 0 then return { 'unknown', f.to } end
call('XDEL', KEYS[1] .. KEY.dead_letters, ARGV[1])
return { 'sent', string.match(f.head, '^%S+') }
