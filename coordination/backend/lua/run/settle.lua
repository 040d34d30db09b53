-- Result in, lease out, dependents counted down, what became ready dispatched. A second call changes nothing.
-- ARGV: run, todo, fence, outcome (succeeded|failed|cancelled), exit code, error, output (JSON; of what did not succeed: so far),
--   tip of the repository's branch, the commit that it began with, `worker` where the failure is none of the todo's own, and where
--   nothing ran, `<run> <todo>` whose result it was given
-- Returns: `settled`, `again` (this fence settled it before) or `stale` (somebody else holds it).
local todo, fence, outcome, exit_code, why, json, tip, began, blame, cached = unpack(ARGV, 2, 11)
if not held_by(todo, fence) then
  return reply(fact(todo, 'settled_by') == fence and 'again' or 'stale')
end
local undoing = fact(todo, 'undo')
if outcome == 'succeeded' and not undoing then erase(todo, 'error') end
if exit_code ~= '' then note_of_attempt(todo, 'exit_code', exit_code) end
if outcome ~= 'succeeded' then
  keep_so_far(todo, json)
elseif json ~= '' and not undoing then
  call('HSET', output, todo, json)
  call('HDEL', checkpoint, todo)
end
if tip ~= '' and not undoing then
  call('HSET', tips, place_of(todo).repo, tip)
  note(todo, 'commit', tip)
  if began ~= '' then note(todo, 'began', began) end
end
note(todo, 'settled_by', fence)
if cached ~= '' then
  note(todo, 'cached', cached)
  call('HINCRBY', meta, 'cached', 1)
  count('todos_cached')
elseif outcome == 'succeeded' and not undoing then
  keep_duration(todo, place_of(todo))
end
tell_breakers(todo, cached == '' and outcome or 'cached', blame, why)
settle(todo, outcome, why)
return reply('settled')
