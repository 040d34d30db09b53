-- Delete expired places and shares of names, offer what that frees to the next, and delete unused names.
-- KEYS: head    ARGV: names
-- Returns: {places in queues, expired shares, requests that were granted, unused names}
local places, shares, granted, idle = 0, 0, 0, 0
for _, name in ipairs(ARGV) do
  local queue = key(KEY.queue, name)
  for _, id in ipairs(call('ZRANGE', queue, 0, -1)) do
    if not in_queue(queue, id) then places = places + 1 end
  end
  shares = shares + call('ZCOUNT', key(KEY.shares, name), '-inf', now)
  drop_expired_shares(name)
  local waiting = call('ZCARD', queue)
  offer_names({ name })
  granted = granted + waiting - call('ZCARD', queue)
  idle = idle + 1 - call('SISMEMBER', head .. KEY.names, name)
end
return { places, shares, granted, idle }
