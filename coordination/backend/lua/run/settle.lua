-- Settle an attempt: record its result, end its lease, count down its dependents, dispatch those that became
-- ready. A second call changes nothing.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, fence, outcome (succeeded|failed|cancelled), exit code, error, output (JSON; of an
--   unsuccessful attempt: so far), tip of the repository's branch, the commit that it began with, `worker` if
--   the failure is not the todo's own, `<run> <todo>` whose result was reused instead of executing, the
--   signed result (or empty), the figures of the change set, the verdict of a check (_changes.lua), and the
--   JSON of files that the commit does not contain
-- Returns: `settled`, `again` (this fence settled it before) or `stale` (another attempt holds it).
local todo, fence, outcome, exit_code, why, json = unpack(ARGV, 2, 7)
local tip, began, blame, cached, signed, figures, check, not_committed = unpack(ARGV, 8, 15)
if not held_by(todo, fence) then
  return reply(fact(todo, 'settled_by') == fence and 'again' or 'stale')
end
-- all that is looked at below, with one command; what is known to be missing needs no HDEL
local undoing = facts_of(todo, 'undo', 'attempt', 'worker', 'started_at', 'commit', 'began', 'error',
  'waits_for', 'wait_reason', 'frees', 'keeps', 'agents', 'tries')
if outcome == 'succeeded' and not undoing then erase(todo, 'error') end
if exit_code ~= '' then note_of_attempt(todo, 'exit_code', exit_code) end
if outcome ~= 'succeeded' then
  keep_output(todo, json)
elseif json ~= '' and not undoing then
  call('HSET', output, todo, json)
  call('HDEL', checkpoint, todo)
end
if signed ~= '' then call('HSET', results, (undoing and 'undone ' or '') .. todo, signed) end
if tip ~= '' and not undoing then
  local repo = place_of(todo).repo
  local its_result = 'tip ' .. repo
  call('HSET', tips, repo, tip)
  change_set.move(repo, tip, began, signed, figures)
  if signed == '' then call('HDEL', results, its_result) else call('HSET', results, its_result, signed) end
  note(todo, 'commit', tip)
  if began ~= '' then note(todo, 'began', began) end
end
if check ~= '' and not undoing then change_set.checked(place_of(todo).repo, check) end
if not_committed ~= '' and not undoing then note(todo, 'not_committed', not_committed) end
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
