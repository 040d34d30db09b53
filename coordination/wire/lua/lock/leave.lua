-- The request waits no longer.
-- KEYS: head    ARGV: request
-- Returns: nil, or {fence, epoch} where it was granted in the meantime: then it holds.
head = KEYS[1]
local request = load(ARGV[1])
if not request then return nil end
if request.state == 'held' then return { request.fence, epoch() } end
withdraw(request)
return nil
