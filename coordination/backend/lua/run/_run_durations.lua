-- Durations of todos: those from which plans without estimates are forecast, and those that the progress of
-- this run is computed from (planner/remaining.py). The fact `expected` is `<ms> <source>`; it never changes,
-- so that no estimate moves the progress of a run backwards.

local DURATIONS_KEPT, DURATIONS_FOR_S = 25, 90 * 24 * 3600 -- for each group, since its last duration

-- Record the duration of the last attempt, in which it held its slot; of the start of a service since its
-- order, which includes the time that it was parked. It goes into its own group, and into the wider one
-- without labels. Also record how it compares with the expected duration: the number of such todos of the run
-- and the sum of the logarithms, for each source of expectations.
local function keep_duration(todo, p)
  local took = now - (tonumber(fact(todo, 'started_at')) or now)
  if took < 0 then return end -- the clock was set back
  count_time('todo', took)
  local group = head .. KEY.durations .. p.repo .. ' '
  local wider = string.match(p.kind, '^[^:]*')
  for _, kind in ipairs(wider == p.kind and { wider } or { wider, p.kind }) do
    local kept = call('LPUSH', group .. kind, math.max(took, 1))
    if kept > DURATIONS_KEPT then call('LTRIM', group .. kind, 0, DURATIONS_KEPT - 1) end
    call('EXPIRE', group .. kind, DURATIONS_FOR_S)
  end
  local expected_ms, source = string.match(fact(todo, 'expected') or '', '^(%d+) (%l)')
  if not expected_ms or #expected_ms > 13 or tonumber(expected_ms) == 0 then return end
  call('HINCRBY', meta, 'paced.' .. source, 1)
  call('HINCRBYFLOAT', meta, 'pace.' .. source,
    string.format('%.4f', math.log(math.max(took, 1) / tonumber(expected_ms))))
end
