-- Ask whether a caller may call the target of a breaker. The same caller gets the same answer again.
-- KEYS: head
-- ARGV: name, id of the caller (one for each call), description of the caller, probe time in ms; host, pid
--   and start of the process whose end ends the probe (host empty: the probe outlives its process)
-- Returns: `closed`; `probe`: only this caller may try, and must record the result; or `open` or `half-open`,
--   until when in ms, the reason as text, and the process that probes as JSON {probe, host, pid, started}
--   (empty if it is not known)
local name, who, by, ttl_ms, host, pid, started = unpack(ARGV)
local state, ends = breaker.access(name, who)
if state == 'probe' then
  local process = host ~= '' and { host = host, pid = tonumber(pid), started = started } or nil
  breaker.begin_probe(name, who, by, now + ttl_ms, process)
end
if not ends then return { state } end
local process = state == 'half-open' and breaker.probing_process(name)
return {
  state, string.format('%.0f', ends), breaker.refusal_text(name, state, ends),
  process and cjson.encode(process) or '',
}
