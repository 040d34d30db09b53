-- The events of the namespace, for readers outside a run. The step that makes a change writes its event, so
-- each change has exactly one. Kinds and fields: events/kinds.py, events/stream.py.

local first_line, announce, announce_if_asked

do
  -- An entry takes about 150 bytes, so the stream takes 15 MB: the events of 40,000 todos.
  local KEPT = 100000
  -- Kinds that are asked for by name have a stream of their own, where they displace no others.
  local ASKED_KEPT = 10000
  local TITLE_BYTES = 300

  -- Return the first line of a text, cut at the end of a character.
  function first_line(text)
    local line = string.match(text, '^[^\r\n]*')
    if #line <= TITLE_BYTES then return line end
    return (string.gsub(string.sub(line, 1, TITLE_BYTES), '[\192-\255]?[\128-\191]*$', '')) .. ' …'
  end

  -- Write an event. `...`: names and values of its other fields: `run`, `actor`, `repos`, `title`, `entry`
  -- (the same event in the run's own stream), or data. A key of another type loses the event, not the change:
  -- pcall.
  function announce(kind, subject, ...)
    return redis.pcall('XADD', head .. KEY.events, 'MAXLEN', '~', KEPT, '*',
      'kind', kind, 'subject', subject, 'at', now, ...)
  end

  -- Write an event of a kind that is only counted, if somebody asks for the kind by name.
  function announce_if_asked(kind, subject, ...)
    local expiry = redis.pcall('ZSCORE', head .. KEY.event_requests, kind)
    if type(expiry) ~= 'string' or tonumber(expiry) <= now then return end
    redis.pcall('XADD', head .. KEY.events_asked, 'MAXLEN', '~', ASKED_KEPT, '*',
      'kind', kind, 'subject', subject, 'at', now, ...)
  end
end
