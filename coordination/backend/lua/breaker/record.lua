-- Record the result of a call that the breaker let through. A repeated call counts once.
-- KEYS: head
-- ARGV: name, id of the caller, `succeeded`, `failed` or `gave_up`, reason, then the policy: failures (0: it
--   never opens), window in ms, open time in ms
-- Returns: the breaker's state
local name, who, verdict, why, failures, window_ms, open_ms = unpack(ARGV)
local policy = { failures = tonumber(failures), window_ms = tonumber(window_ms), open_ms = tonumber(open_ms) }

local function is_counted()
  for _, failure in ipairs(call('LRANGE', key(KEY.breaker_failures, name), 0, -1)) do
    if string.match(failure, ' (.*)$') == who then return true end
  end
  return false
end

if verdict == 'succeeded' then
  breaker.succeeded(name, who)
elseif verdict == 'gave_up' or policy.failures == 0 then
  breaker.gave_up(name, who)
elseif not is_counted() then
  breaker.failed(name, who, why, policy)
end
return breaker.state(name) or CLOSED
