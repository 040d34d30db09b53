-- The change set of a run: what its plan has made and not landed yet. Its hash has a field `<fact> <repo>`
-- for each fact of a repository, and `todo <todo>` with `run repo` for each result
-- (runs/change_sets/store.py). A run without the field `change_set` in its meta (a landing, for example) has
-- none: nothing happens here.
--
-- One run at a time writes a repository of a change set: the seal takes the repositories, the end of the run
-- gives them back. So the tip of the run and that of its change set move together.
--
-- Fields of the run's meta: `change_set`; `writes` (repositories); `takes_up` (runs that it retries and
-- takes back with itself); `before.<repo>` (the tip before the run, and before those that it takes up);
-- `redoes` (todos whose result it replaces); `inverse.<repo>` (the tip that takes it out of a published
-- branch). Field `before <repo>` of its signed results belongs to the tip before.
--
-- Fact `behind` of a repository: its tip was set back behind commits of its pull request. The next run adds
-- their inverse (workers/workspace/base_commit.py), and its first settle ends the state.

local change_set = {}

do
  local FACTS = {
    'base', 'tip', 'host', 'run', 'runs', 'commits', 'files', 'added', 'removed', 'landed', 'reverted',
    'result', 'checks',
  }

  -- Return the key of the run's change set; nil without one.
  local function key_of()
    if memo.change_set == nil then memo.change_set = call('HGET', meta, 'change_set') or '' end
    return memo.change_set ~= '' and head .. KEY.changes .. memo.change_set or nil
  end

  function change_set.is_written() return key_of() ~= nil end

  -- Return the repositories that the run may write.
  local function written() return string.gmatch(call('HGET', meta, 'writes') or '', '%S+') end

  local function is_live(other) return call('ZSCORE', live, other) end

  local function forget(key, repo, facts)
    local fields = {}
    for i, fact in ipairs(facts or FACTS) do fields[i] = fact .. ' ' .. repo end
    call('HDEL', key, unpack(fields))
  end

  -- Forget the figures of a tip that is not the tip any more.
  function change_set.forget_figures(key, repo)
    forget(key, repo, { 'commits', 'files', 'added', 'removed' })
  end

  -- Note that the tip goes back while a pull request shows it.
  local function note_set_back(key, repo)
    if call('HEXISTS', key, 'request ' .. repo) == 1 then call('HSET', key, 'behind ' .. repo, run) end
  end

  -- Forget the results for which `is_gone(run, repo)` holds.
  local function forget_todos(key, is_gone)
    local all = call('HGETALL', key)
    for i = 1, #all, 2 do
      local source, repo = string.match(all[i + 1], '^(%S+) (%S+)$')
      if string.sub(all[i], 1, 5) == 'todo ' and source and is_gone(source, repo) then
        call('HDEL', key, all[i])
      end
    end
  end

  -- Take the repositories for this run. `expected`: a repository, its branch, and the tip from which the run
  -- was made, and so on. Returns nil, `busy` if another live run writes one, `moved` if a tip has moved.
  function change_set.take(expected)
    local key = key_of()
    if not key then return end
    for i = 1, #expected, 3 do
      local repo = expected[i]
      local writer, tip, landed =
        unpack(call('HMGET', key, 'writer ' .. repo, 'tip ' .. repo, 'landed ' .. repo))
      if writer and writer ~= run and is_live(writer) then return 'busy' end
      if (tip and not landed and tip or '') ~= expected[i + 2] then return 'moved' end
    end
    for i = 1, #expected, 3 do
      local repo, before = expected[i], expected[i + 2]
      call('HSET', key, 'writer ' .. repo, run)
      call('HSETNX', key, 'branch ' .. repo, expected[i + 1])
      local tip = call('HGET', tips, repo)
      if before ~= '' and tip ~= before then -- a retry that takes results back
        note_set_back(key, repo)
        if tip then
          local signed = call('HGET', results, 'tip ' .. repo) or ''
          call('HSET', key, 'tip ' .. repo, tip, 'result ' .. repo, signed)
          change_set.forget_figures(key, repo)
        else
          forget(key, repo)
        end
      end
    end
    for todo in string.gmatch(call('HGET', meta, 'redoes') or '', '%S+') do
      call('HDEL', key, 'todo ' .. todo)
    end
    call('SADD', head .. KEY.change_sets, memo.change_set)
  end

  -- Take the repositories again, for a rollback; the caller has refused one while another run writes them.
  function change_set.take_again()
    local key = key_of()
    if not key then return end
    for repo in written() do
      local writer = call('HGET', key, 'writer ' .. repo)
      if not writer or not is_live(writer) then call('HSET', key, 'writer ' .. repo, run) end
    end
  end

  -- Release the repositories at the end of the run; delete a change set that has nothing.
  function change_set.release()
    local key = key_of()
    if not key then return end
    for repo in written() do
      local writer, tip = unpack(call('HMGET', key, 'writer ' .. repo, 'tip ' .. repo))
      if writer == run then
        call('HDEL', key, 'writer ' .. repo)
        if not tip then
          if call('HEXISTS', key, 'behind ' .. repo) == 0 then
            call('HDEL', key, 'branch ' .. repo, 'request ' .. repo)
          end
          call('UNLINK', head .. KEY.adopted .. repo .. ':' .. memo.change_set)
        end
      end
    end
    if call('EXISTS', key) == 0 then call('SREM', head .. KEY.change_sets, memo.change_set) end
  end

  -- Return a list of runs, words, with this run at its end.
  function change_set.with_run(runs)
    if string.find(' ' .. runs .. ' ', ' ' .. run .. ' ', 1, true) then return runs end
    return runs == '' and run or runs .. ' ' .. run
  end

  -- Move the tip of a repository. `figures`: base commit, then commits, files and lines added and removed
  -- since; empty if unknown.
  function change_set.move(repo, tip, began, signed, figures)
    local key = key_of()
    if not key then return end
    local had, landed, of, base, behind = unpack(call('HMGET', key, 'tip ' .. repo, 'landed ' .. repo,
      'runs ' .. repo, 'base ' .. repo, 'behind ' .. repo))
    if landed then had = false end
    if tip == (had or began) and not behind then return end -- nothing that could land has changed
    call('HDEL', key, 'behind ' .. repo)
    if landed then -- a new beginning
      forget(key, repo)
      call('HDEL', key, 'request ' .. repo)
      forget_todos(key, function(source, its_repo) return its_repo == repo and source ~= run end)
      of, base = false, false
    end
    local numbers = {}
    for word in string.gmatch(figures, '%S+') do numbers[#numbers + 1] = word end
    call('HSET', key, 'tip ' .. repo, tip, 'run ' .. repo, run,
      'runs ' .. repo, change_set.with_run(of or ''),
      'host ' .. repo, call('HGET', meta, 'host.' .. repo) or '', 'result ' .. repo, signed,
      'base ' .. repo, numbers[1] or base or began, 'commits ' .. repo, numbers[2] or '',
      'files ' .. repo, numbers[3] or '', 'added ' .. repo, numbers[4] or '',
      'removed ' .. repo, numbers[5] or '')
  end

  -- Record a todo's result. In-place work belongs to no change set.
  function change_set.add(todo, p)
    local key = key_of()
    if key and not string.find(p.wants, ':in-place', 1, true) then
      call('HSET', key, 'todo ' .. todo, run .. ' ' .. p.repo)
    end
  end

  -- Record the verdict of a quality check on the tip of a change set: by a run that writes it, one of checks
  -- of it, or its landing, which has merged the tip into its base branch. `record`: check, verdict, commit.
  -- Field `checks <repo>` has a line of words for each check: its name, verdict, tip, run.
  function change_set.checked(repo, record)
    local kind, subject = string.match(call('HGET', meta, 'plan_id') or '', '^(%l+):(.+)$')
    local name, verdict, commit = string.match(record, '^(%S+) (%S+) (%S+)$')
    local key = key_of() or subject and head .. KEY.changes .. subject
    if not key or not name then return end
    local tip, had = unpack(call('HMGET', key, 'tip ' .. repo, 'checks ' .. repo))
    if not tip or (commit ~= tip and kind ~= 'land') then return end
    local lines = { table.concat({ name, verdict, tip, run }, ' ') }
    for line in string.gmatch(had or '', '[^\n]+') do
      if string.match(line, '^%S+') ~= name then lines[#lines + 1] = line end
    end
    table.sort(lines)
    call('HSET', key, 'checks ' .. repo, table.concat(lines, '\n'))
  end

  -- Forget a result that was undone.
  function change_set.undone(todo)
    local key = key_of()
    local source = key and call('HGET', key, 'todo ' .. todo)
    if source and string.match(source, '^%S+') == (fact(todo, 'run') or run) then
      call('HDEL', key, 'todo ' .. todo)
    end
  end

  -- Remove the run, and the runs that it retries, from the end of the change set.
  function change_set.take_back()
    local key = key_of()
    if not key then return end
    local gone = { [run] = true }
    for other in string.gmatch(call('HGET', meta, 'takes_up') or '', '%S+') do gone[other] = true end
    for repo in written() do
      local newest, of, tip = unpack(call('HMGET', key, 'run ' .. repo, 'runs ' .. repo, 'tip ' .. repo))
      local is_inverse = tip and call('HGET', meta, 'inverse.' .. repo) == tip
      if newest and gone[newest] and not is_inverse then
        local before, left, last = call('HGET', meta, 'before.' .. repo), {}, nil
        for other in string.gmatch(of or '', '%S+') do
          if not gone[other] then
            left[#left + 1], last = other, other
          end
        end
        local base, host, reverted =
          unpack(call('HMGET', key, 'base ' .. repo, 'host ' .. repo, 'reverted ' .. repo))
        note_set_back(key, repo)
        forget(key, repo)
        if before and last then
          local signed = call('HGET', results, 'before ' .. repo) or ''
          call('HSET', key, 'tip ' .. repo, before, 'result ' .. repo, signed, 'run ' .. repo, last,
            'runs ' .. repo, table.concat(left, ' '), 'base ' .. repo, base or '',
            'host ' .. repo, host or '')
          if reverted then call('HSET', key, 'reverted ' .. repo, reverted) end
        end
      end
    end
    forget_todos(key, function(source) return gone[source] end)
  end
end
