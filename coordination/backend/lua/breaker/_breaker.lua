-- Circuit breakers, for their own steps and for those of runs. Design: breakers/__init__.py.
-- A policy is {failures, window_ms, open_ms}: that many failures within the window open the breaker for
-- open_ms. A breaker that is closed and has no failure in its window has no data in Redis.

local CLOSED = 'closed'
local BY_LEASE = 'lease' -- a todo is a probe for as long as its lease lasts

local function all_closed() return call('EXISTS', head .. KEY.breakers) == 0 end

local breaker = {}

do
  local OPEN, HALF_OPEN, PROBE = 'open', 'half-open', 'probe'

  local function state_of(name) return call('HGET', head .. KEY.breakers, name) end

  local function repo_of(name) return string.match(name, '^repo:(.*)$') or '' end

  local LONGEST_LIMIT_MS = 35 * 86400000

  -- Return the time in ms at which the probe's time is over; 0 without a probe.
  local function probed_until(record, probe)
    local ends = probe and call('HGET', record, 'probe_until')
    if ends == BY_LEASE then return tonumber(call('ZSCORE', head .. KEY.leases, probe) or 0) end
    return tonumber(ends or 0)
  end

  -- A limit of an agent's account ends by itself: nothing probes it.
  local function is_limit(name) return string.sub(name, 1, 6) == 'agent:' end

  -- Return whether an open breaker is none any more: its limit has ended. The clock may have jumped: no limit
  -- lasts for longer than LONGEST_LIMIT_MS.
  local function is_over(name, opens)
    return is_limit(name) and (opens <= now or opens - now > LONGEST_LIMIT_MS)
  end

  -- The answer has changed: the todos parked behind the breaker ask again.
  local function wake_parked(name)
    local behind = key(KEY.breaker_behind, name)
    for _, id in ipairs(call('ZRANGE', behind, 0, -1)) do notify({ kind = 'todo', id = id }) end
  end

  local function close(name)
    wake_parked(name)
    call('DEL', key(KEY.breaker, name), key(KEY.breaker_failures, name), key(KEY.breaker_behind, name))
    call('HDEL', head .. KEY.breakers, name)
  end

  -- Return the answer for a caller that asks now: `closed`; `open` or `half-open`, and its end in ms; or
  -- `probe`: only this caller may try.
  local function access(name, who)
    local state = state_of(name)
    if not state then return CLOSED end
    if state == CLOSED then
      local forgotten = call('EXISTS', key(KEY.breaker_failures, name)) == 0
      if forgotten then call('HDEL', head .. KEY.breakers, name) end
      return CLOSED
    end
    local record = key(KEY.breaker, name)
    local opens, probe = unpack(call('HMGET', record, 'until', 'probe'))
    opens = tonumber(opens)
    if state == OPEN and is_over(name, opens) then
      close(name)
      announce('breaker.closed', name, 'repos', '')
      return CLOSED
    end
    if state == OPEN and opens > now then return OPEN, opens end
    local ends = probed_until(record, probe)
    if probe ~= who and ends > now then return HALF_OPEN, ends end
    return PROBE
  end

  -- `by`: a description of `who`. `ends`: until when in ms, or BY_LEASE. `process`: host, pid and start of
  -- the process whose end ends the probe; nil: a lease ends it, or it outlives its process.
  local function begin_probe(name, who, by, ends, process)
    if state_of(name) ~= HALF_OPEN then
      announce('breaker.half_open', name, 'repos', repo_of(name), 'title', first_line(by))
    end
    call('HSET', head .. KEY.breakers, name, HALF_OPEN)
    local record = key(KEY.breaker, name)
    call('HSET', record, 'probe', who, 'probe_by', by, 'probe_until', ends, 'probed_at', now)
    if process then
      process.probe = who -- earlier versions do not delete the process of the last probe
      call('HSET', record, 'probe_process', cjson.encode(process))
    else
      call('HDEL', record, 'probe_process')
    end
  end

  -- Return the process that probes: {probe, host, pid, started}; nil if it is not known.
  local function probing_process(name)
    local probe, stored = unpack(call('HMGET', key(KEY.breaker, name), 'probe', 'probe_process'))
    local process = stored and cjson.decode(stored)
    if process and process.probe == probe then return process end
  end

  local function is_probe(name, who) return call('HGET', key(KEY.breaker, name), 'probe') == who end

  local function end_probe(name)
    call('HDEL', key(KEY.breaker, name), 'probe', 'probe_by', 'probe_until', 'probed_at', 'probe_process')
  end

  local function trip(name, policy, why)
    local record = key(KEY.breaker, name)
    announce('breaker.opened', name, 'repos', repo_of(name), 'title', why, 'open_ms', policy.open_ms)
    end_probe(name)
    call('HSET', head .. KEY.breakers, name, OPEN)
    call('HSET', record, 'until', now + policy.open_ms, 'opened_at', now)
    call('HSETNX', record, 'since', now)
    call('PERSIST', record)
    wake_parked(name)
  end

  -- The account of an agent is used up until `ends` in ms. A limit that ends earlier changes nothing.
  local function limit(name, ends, why)
    local record = key(KEY.breaker, name)
    local known = tonumber(call('HGET', record, 'until') or 0)
    if state_of(name) and not is_over(name, known) and known >= ends then return end
    why = first_line(why)
    announce('breaker.opened', name, 'repos', '', 'title', why, 'open_ms', string.format('%.0f', ends - now))
    call('HSET', head .. KEY.breakers, name, OPEN)
    call('HSET', record, 'until', string.format('%.0f', ends), 'opened_at', now, 'failed_at', now, 'why', why)
    call('HSETNX', record, 'since', now)
    call('PERSIST', record)
  end

  -- A closed breaker keeps only the times of its last failures, as many as open it: the window slides
  -- exactly.
  local function count_failure(name, who, policy, why)
    local times, record = key(KEY.breaker_failures, name), key(KEY.breaker, name)
    call('RPUSH', times, string.format('%.0f %s', now, who))
    call('LTRIM', times, -policy.failures, -1)
    call('PEXPIRE', times, policy.window_ms)
    call('PEXPIRE', record, policy.window_ms)
    call('HSET', head .. KEY.breakers, name, CLOSED)
    local first = tonumber(string.match(call('LINDEX', times, 0), '^%d+'))
    if call('LLEN', times) == policy.failures and now - first < policy.window_ms then
      trip(name, policy, why)
    end
  end

  -- A breaker that is not closed counts only its probe: a call from before it opened says nothing about the
  -- present.
  local function failed(name, who, why, policy)
    local state = state_of(name) or CLOSED
    if state ~= CLOSED and not is_probe(name, who) then return end
    why = first_line(why)
    call('HSET', key(KEY.breaker, name), 'why', why, 'failed_at', now,
      'failures', policy.failures, 'window_ms', policy.window_ms)
    if state == CLOSED then count_failure(name, who, policy, why) else trip(name, policy, why) end
  end

  local function succeeded(name, who)
    if not is_probe(name, who) then return end
    close(name)
    announce('breaker.closed', name, 'repos', repo_of(name))
  end

  -- The probe ended without a result: the next one may try.
  local function gave_up(name, who)
    if not is_probe(name, who) then return end
    end_probe(name)
    wake_parked(name)
  end

  -- Return a moment in ms as text: 2026-11-21T21:40:00Z. Days after H. Hinnant, "chrono-Compatible Low-Level
  -- Date Algorithms".
  local function moment(ms)
    local seconds = math.floor(ms / 1000)
    local days, rest = math.floor(seconds / 86400) + 719468, seconds % 86400
    local era = math.floor(days / 146097)
    local of_era = days - era * 146097
    local leap_days = math.floor(of_era / 1460) - math.floor(of_era / 36524) + math.floor(of_era / 146096)
    local year = math.floor((of_era - leap_days) / 365)
    local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    local shifted = math.floor((5 * of_year + 2) / 153) -- months, from March on
    local day = of_year - math.floor((153 * shifted + 2) / 5) + 1
    local month = shifted < 10 and shifted + 3 or shifted - 9
    year = year + era * 400 + (month <= 2 and 1 or 0)
    return string.format('%04d-%02d-%02dT%02d:%02d:%02dZ', year, month, day,
      math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60)
  end

  local KINDS = { repo = 'repository', resource = 'resource', action = 'action' }

  -- Describe why a caller does not get through. `state` and `ends` are those of `access`.
  local function refusal_text(name, state, ends)
    if is_limit(name) then
      return call('HGET', key(KEY.breaker, name), 'why') .. '; until ' .. moment(ends)
    end
    local kind, bare = string.match(name, '^(%l+):(.*)$')
    local what = KINDS[kind] .. ' ' .. bare .. ': its circuit breaker is ' .. state
    local values = call('HMGET', key(KEY.breaker, name), 'failures', 'window_ms', 'why', 'probe_by')
    local failures, window_ms, why, by = unpack(values)
    if state == HALF_OPEN then return what .. ', and ' .. by .. ' probes it' end
    local count = failures == '1' and '1 failure' or failures .. ' failures'
    local form = '%s after %s in %g s, last: %s; probe at %s'
    return string.format(form, what, count, window_ms / 1000, why, moment(ends))
  end

  breaker.state, breaker.access, breaker.refusal_text, breaker.close = state_of, access, refusal_text, close
  breaker.probed_until, breaker.begin_probe, breaker.failed = probed_until, begin_probe, failed
  breaker.succeeded, breaker.gave_up, breaker.repo_of = succeeded, gave_up, repo_of
  breaker.probing_process, breaker.limit, breaker.is_over = probing_process, limit, is_over
end
