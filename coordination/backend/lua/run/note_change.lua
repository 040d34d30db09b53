-- Record that a todo of a landing brought a repository's changes into the base branch, or took them out
-- again: then the change set is open, at a tip that restores the work. Or that a rollback has taken a run out
-- of a published branch, at a tip with an inverse commit.
-- KEYS: those of every step of a run (_run.lua)
-- ARGV: run, todo, fence, change set, repository, landing (JSON; empty after a revert), and after a revert:
--   the tip, the base that it builds on, the signed result that states it, and the record of the revert
--   (JSON; empty after a rollback); then names and values for the event. A record that is written
--   again, such as with the page of the request of its revert, is no other landing, and has no event.
-- Returns: `noted`, `stale` (another attempt holds the todo), or `gone` (there is no such change set).
local todo, fence, name, repo, landed, tip, base, signed, reverted = unpack(ARGV, 2, 10)
if not held_by(todo, fence) then return reply('stale') end
local key = head .. KEY.changes .. name
if call('HEXISTS', key, 'tip ' .. repo) == 0 then return reply('gone') end
local had_landed = call('HEXISTS', key, 'landed ' .. repo) == 1
if landed ~= '' then
  call('HSET', key, 'landed ' .. repo, landed)
  call('HDEL', key, 'reverted ' .. repo)
  call('UNLINK', head .. KEY.adopted .. repo .. ':' .. name)
else
  call('HSET', key, 'tip ' .. repo, tip, 'base ' .. repo, base, 'run ' .. repo, run,
    'result ' .. repo, signed, 'runs ' .. repo, change_set.with_run(call('HGET', key, 'runs ' .. repo) or ''))
  call('HDEL', key, 'landed ' .. repo)
  change_set.forget_figures(key, repo)
  call('HSET', meta, 'inverse.' .. repo, tip)
  if reverted ~= '' then call('HSET', key, 'reverted ' .. repo, reverted) end
end
if had_landed ~= (landed ~= '') then
  local branch, its_tip, its_base =
    unpack(call('HMGET', key, 'branch ' .. repo, 'tip ' .. repo, 'base ' .. repo))
  announce(landed ~= '' and 'change_set.landed' or 'change_set.reverted', name, 'run', run, 'repos', repo,
    'actor', call('HGET', meta, 'actor') or '', 'branch', branch or '', 'tip', its_tip or '',
    'base', its_base or '', unpack(ARGV, 11))
end
return reply('noted')
