-- List the breakers that are not closed or have failures, all at one moment. Reads only.
-- KEYS: head
-- Returns: JSON {now, breakers: [{name, state, failures (in the window, while it is closed), threshold,
--   behind, …}]}; times in ms by `now`, empty if there is none. `prober` is the process that probes: {probe,
--   host, pid, started}; missing if it is not known. An empty list may come as {}.
local FIELDS = { 'why', 'failed_at', 'opened_at', 'since', 'until', 'probe_by', 'probed_at', 'window_ms' }

local function recent(name, window_ms)
  local count = 0
  for _, failure in ipairs(call('LRANGE', key(KEY.breaker_failures, name), 0, -1)) do
    if now - tonumber(string.match(failure, '^%d+')) < window_ms then count = count + 1 end
  end
  return count
end

local function described(name, state)
  local record = key(KEY.breaker, name)
  local found = { name = name, state = state, behind = call('ZCARD', key(KEY.breaker_behind, name)) }
  for i, value in ipairs(call('HMGET', record, unpack(FIELDS))) do found[FIELDS[i]] = value or '' end
  -- On other hosts the end of a process is not seen: it is named until its time is over.
  if breaker.probed_until(record, call('HGET', record, 'probe')) <= now then
    found.probe_by = ''
  else
    found.prober = breaker.probing_process(name)
  end
  found.threshold = tonumber(call('HGET', record, 'failures') or 0)
  found.failures = recent(name, tonumber(found.window_ms) or 0)
  return found
end

local breakers = {}
local all = call('HGETALL', head .. KEY.breakers)
for i = 1, #all, 2 do
  local found = described(all[i], all[i + 1])
  local is_over = breaker.is_over(found.name, tonumber(found['until']) or 0)
  if (found.state ~= CLOSED or found.failures > 0) and not is_over then breakers[#breakers + 1] = found end
end
return cjson.encode({ now = now, breakers = breakers })
