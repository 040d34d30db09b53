-- List the messages of an inbox, waiting or in flight. Reads only.
-- KEYS: head    ARGV: recipient, maximum number, 1 with their content or 0 with `null` instead
-- Returns: nil for an unknown recipient; else for each: ticket, sent at, head, body, failed deliveries,
--   reader (or empty).
if not call('ZSCORE', KEYS[1] .. KEY.recipients, ARGV[1]) then return nil end
local box = message.box(KEYS[1], ARGV[1])
local rows, limit = {}, tonumber(ARGV[2])

local function show(ticket)
  if call('ZSCORE', box.ready, ticket) and message.delete_if_over(box, ticket) then return end
  local id = string.match(ticket, '^%d+') .. '-0'
  local fields = call('XRANGE', box.stream, id, id)[1][2]
  local d = inbox.delivery(box, ticket)
  local body = ARGV[3] == '1' and fields[6] or 'null'
  rows[#rows + 1] = { ticket, fields[2], fields[4], body, d.failed, d.reader }
end

for _, ticket in ipairs(call('ZRANGE', box.pending, 0, limit - 1)) do show(ticket) end
if #rows < limit then
  for _, ticket in ipairs(call('ZRANGE', box.ready, 0, limit - #rows - 1)) do show(ticket) end
end
return rows
