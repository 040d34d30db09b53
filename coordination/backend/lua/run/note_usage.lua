-- Count what the agents of a running todo have used. The fact `usage` keeps the sum of the earlier attempts
-- apart from the total of the present one, which replaces the one before: repeated calls count once.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, fence, the JSON of the attempt's total (AgentUsage in runs/records.py)
-- Returns: `noted`, or `stale` (another attempt holds it).
local todo, fence, used = unpack(ARGV, 2, 4)
if not held_by(todo, fence) then return reply('stale') end
local kept = cjson.decode(fact(todo, 'usage') or '{"before":{},"now":{}}')
if kept.fence ~= fence then
  for name, number in pairs(kept.now) do kept.before[name] = (kept.before[name] or 0) + number end
  kept.fence = fence
end
kept.now = cjson.decode(used)
note(todo, 'usage', cjson.encode(kept))
return reply('noted')
