-- How the todos of a run are opened: level by level, as Celery's chords, or each when its last predecessor
-- has succeeded. A run whose levels `auto` chose turns from the one to the other, once.

function shape.is_by_level() return call('HGET', meta, 'strategy') == 'levels' end

-- Open the next level that has something to do; its deliveries are returned for one chord (or chain). None
-- are returned if the run leaves the levels, because one of these todos waits for a person.
function shape.open_next_level()
  local last = tonumber(call('HGET', meta, 'levels')) - 1
  local level = tonumber(call('HGET', meta, 'level'))
  while level < last do
    level = level + 1
    local todos = {}
    for todo in string.gmatch(call('HGET', levels, level), '%S+') do
      if state_of(todo) == 'waiting' then todos[#todos + 1] = todo end
    end
    if #todos > 0 then
      local messages = {}
      for _, todo in ipairs(todos) do
        if place_of(todo).kind ~= 'manual' then
          note(todo, 'index', #messages)
          messages[#messages + 1] = todo
        end
      end
      emit_of_run('level.opened', nil, 'level', level)
      for _, todo in ipairs(todos) do
        if state_of(todo) == 'waiting' then enqueue(todo) end
      end
      if not shape.is_by_level() then return {} end
      call('HSET', meta, 'level', level, 'size.' .. level, #messages)
      call('HSET', opened, level, #todos)
      call('HDEL', meta, 'level_settled_at')
      dispatch_ready()
      local header = {}
      for i, todo in ipairs(messages) do header[i] = delivery(todo) end
      return header
    end
  end
  call('HSET', meta, 'level', last)
  return {}
end

-- Open all todos without open predecessors, now or in pieces.
function shape.open_all()
  call('HSET', meta, 'opening', '0')
  open_some()
  dispatch_ready()
end

-- Turn a run whose levels `auto` chose to dispatch on completion, because a todo of the open level waits for
-- something outside. Messages of the level's chord stay valid; its join then opens nothing.
function shape.leave_levels(todo, words)
  local strategy, auto, status, halted, cancelled, level =
    unpack(call('HMGET', meta, 'strategy', 'auto', 'status', 'halted', 'cancelled', 'level'))
  local goes_forward = status == 'running' or status == 'paused'
  if strategy ~= 'levels' or not auto or not goes_forward or halted or cancelled then return end
  local why = todo .. ' waited for ' .. first_line(words)
  call('HSET', meta, 'strategy', 'dataflow', 'switched', why)
  call('HDEL', meta, 'size.' .. level, 'level_settled_at')
  call('DEL', opened)
  emit_of_run('run.switched', nil, 'title', why)
  shape.open_all()
end
