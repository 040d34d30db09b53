-- Durations of todos, from which plans without estimates are forecast.

local DURATIONS_KEPT, DURATIONS_FOR_S = 25, 90 * 24 * 3600 -- for each group, since its last duration

-- Record the duration of the last attempt, from claim to settle, in which it held its slot: in its own group,
-- and in the wider one without labels.
local function keep_duration(todo, p)
  local took = now - (tonumber(fact(todo, 'started_at')) or now)
  if took < 0 then return end -- the clock was set back
  local group = head .. KEY.durations .. p.repo .. ' '
  local wider = string.match(p.kind, '^[^:]*')
  for _, kind in ipairs(wider == p.kind and { wider } or { wider, p.kind }) do
    local kept = call('LPUSH', group .. kind, math.max(took, 1))
    if kept > DURATIONS_KEPT then call('LTRIM', group .. kind, 0, DURATIONS_KEPT - 1) end
    call('EXPIRE', group .. kind, DURATIONS_FOR_S)
  end
end
