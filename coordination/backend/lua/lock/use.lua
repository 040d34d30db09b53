-- Report the use of resources.
-- KEYS: head    ARGV: names
-- Returns: for each {capacity, used now, sum of amount × ms so far, over how many ms, waiting, granted, sum
--   of ms waited by these, longest wait in ms}

local function wait_of(id)
  local arrived = call('HGET', key(KEY.request, id), 'arrived')
  return arrived and now - arrived or 0
end

local function use_of(name)
  drop_expired_shares(name)
  record_use(name, 0, now)
  local stats = key(KEY.stats, name)
  local facts = call('HMGET', stats, 'used', 'used_ms', 'from', 'granted', 'waited_ms', 'longest_ms')
  local used, used_ms, from, granted, waited_ms, longest_ms = unpack(facts)
  local queue = call('ZRANGE', key(KEY.queue, name), 0, -1)
  longest_ms = tonumber(longest_ms or 0)
  for _, id in ipairs(queue) do longest_ms = math.max(longest_ms, wait_of(id)) end
  local capacity = tonumber(call('HGET', head .. KEY.capacities, name) or 0)
  return {
    capacity, tonumber(used), tonumber(used_ms), now - tonumber(from), #queue, tonumber(granted or 0),
    tonumber(waited_ms or 0), longest_ms,
  }
end

local uses = {}
for i, name in ipairs(ARGV) do uses[i] = use_of(name) end
return uses
