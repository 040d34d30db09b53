-- Try a todo again after a delay, or at once if its worker hands it back.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, fence, counted (tries|handed_back), delay in ms, exit code, error, output so far (JSON),
--   `worker` if the failure is not the todo's own
-- Returns: `retrying`, `settled` (as failed, or cancelled if nothing new starts) or `stale`.
local todo, fence, counted, delay_ms, exit_code, why, json, blame = unpack(ARGV, 2, 9)
if not held_by(todo, fence) then return reply('stale') end
keep_output(todo, json)
if exit_code ~= '' then note_of_attempt(todo, 'exit_code', exit_code) end
tell_breakers(todo, counted == 'tries' and 'failed' or counted, blame, why)
if no_new_start(todo) then
  local outcome, reason = ending()
  if why == '' then why = 'handed back by ' .. fact(todo, 'worker') .. ', not tried again: ' .. reason end
  settle(todo, outcome, why)
  return reply('settled')
end
again(todo, counted, delay_ms, why)
return reply('retrying')
