-- The waves of a landing, one after the other. Facts of their noops (models/execution.py): `frees` gives
-- back the locks of the barrier, `keeps` ends what a rollback of the run takes back, `tolerates` is a number
-- of failures right before it.

local waves = {}

-- Return whether a todo may begin although one right before it has not succeeded; open it behind the last of
-- them. Another noop of a wave must always succeed.
function waves.tolerates(todo, before)
  local limit = fact(todo, 'tolerates')
  if not limit or place_of(before).kind == 'noop' then return false end
  if fact(before, 'missed') then return true end -- a piece of a large run looks at it again
  if state_of(before) ~= 'skipped' then
    increment(todo, 'failures')
    if tonumber(fact(todo, 'failures')) > tonumber(limit) then return false end
  end
  note(before, 'missed', 1)
  if call('HINCRBY', pending, todo, -1) == 0 and state_of(todo) == 'waiting' then enqueue(todo) end
  return true
end

-- Do what a noop of a wave does when it succeeds.
function waves.advance(todo)
  local frees, keeps = facts_of(todo, 'frees', 'keeps')
  local barrier = frees and call('HGET', meta, 'barrier')
  if barrier then
    give_back(member(barrier))
    call('HDEL', meta, 'barrier')
    erase(barrier, 'intent') -- else a rollback would take the locks again, only to free them
  end
  if not keeps then return end
  local ended, fields, all = {}, {}, call('HGETALL', state)
  for i = 1, #all, 2 do
    if ENDED[state_of(all[i])] then ended[#ended + 1] = all[i] end
  end
  for i = 1, #ended, 500 do
    for j = i, math.min(i + 499, #ended) do fields[j - i + 1] = ended[j] .. ' intent' end
    look_up(fields)
    fields = {}
  end
  for _, one in ipairs(ended) do erase(one, 'intent') end
end
