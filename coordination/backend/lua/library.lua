-- The head of the function library: the state of one call, and the registration of a step.
--
-- The local variables of a library live as long as the library is loaded, so they outlive a call. Only
-- `begin`, and `begin_run` for the steps of a run, assign state, at the start of each call: a call that
-- failed halfway leaves nothing for the next one (tests/contracts/test_library.py). backend/library.py writes
-- KEY, the names of keys, and DIGEST, of this text, in front.

local call -- redis.call, which does not exist while a library is loaded
local now, now_us -- the server's clock in ms and µs: one moment for the whole call
local head -- the namespace with its colon
local woken -- todos that were granted their request in this call: `run todo`

local function begin(keys)
  call = redis.call
  local time = call('TIME')
  now_us = time[1] * 1000000 + time[2]
  now = math.floor(now_us / 1000)
  head, woken = keys[1], {}
end

-- `counts`: minimum and maximum number of keys, then of arguments.
local function register(name, flags, counts, prepare, step)
  redis.register_function {
    function_name = name .. '_' .. DIGEST,
    flags = flags,
    callback = function(keys, args)
      if #keys < counts[1] or #keys > counts[2] or #args < counts[3] or #args > counts[4] then
        local wrong = 'ERR step %s was called with %d keys and %d arguments'
        return redis.error_reply(string.format(wrong, name, #keys, #args))
      end
      begin(keys)
      if prepare then prepare(keys, args) end
      return step(keys, args)
    end,
  }
end
