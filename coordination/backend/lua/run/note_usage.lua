-- Count what the agents of a running todo have used, for the todo, its plan and the day (_agents.lua). The
-- total of an attempt replaces the one before: repeated calls count once.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, fence, the JSON of the attempt's total (AgentUsage in runs/records.py)
-- Returns: `noted`, `over` (noted, and the budget of its plan or of the day is used up), or `stale` (another
--   attempt holds it).
local todo, fence, used = unpack(ARGV, 2, 4)
if not held_by(todo, fence) then return reply('stale') end
agents.use(todo, fence, cjson.decode(used))
return reply(agents.over_budget(todo) and 'over' or 'noted')
