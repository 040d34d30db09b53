-- What is in an inbox, waiting or in hand; takes nothing.
-- KEYS: head    ARGV: recipient, how many at most, 1 with what they say or 0 with `null` instead
-- Returns: nil for an unknown recipient; else of each: ticket, sent at, head, body, in vain, reader (or empty).
if not call('ZSCORE', KEYS[1] .. KEY.recipients, ARGV[1]) then return nil end
local box = message.box(KEYS[1], ARGV[1])
local rows, limit = {}, tonumber(ARGV[2])

local function show(ticket)
  if call('ZSCORE', box.ready, ticket) and message.drop_if_over(box, ticket) then return end
  local id = string.match(ticket, '^%d+') .. '-0'
  local fields = call('XRANGE', box.stream, id, id)[1][2]
  local d = inbox.delivery(box, ticket)
  rows[#rows + 1] = { ticket, fields[2], fields[4], ARGV[3] == '1' and fields[6] or 'null', d.failed, d.reader }
end

for _, ticket in ipairs(call('ZRANGE', box.pending, 0, limit - 1)) do show(ticket) end
if #rows < limit then
  for _, ticket in ipairs(call('ZRANGE', box.ready, 0, limit - #rows - 1)) do show(ticket) end
end
return rows
