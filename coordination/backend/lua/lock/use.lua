-- How resources are used.
-- KEYS: head    ARGV: names
-- Returns: for each {capacity, used now, ms × amount used so far, in how many ms, waiting, granted, ms waited by these, the longest of all waits in ms}

local function wait_of(id)
  local arrived = call('HGET', key(KEY.request, id), 'arrived')
  return arrived and now - arrived or 0
end

local function use_of(name)
  drop_expired_shares(name)
  account(name, 0, now)
  local facts = call('HMGET', key(KEY.stats, name), 'used', 'used_ms', 'from', 'granted', 'waited_ms', 'longest_ms')
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
