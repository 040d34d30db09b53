-- The head of the function library: the state of one call, and how a step is registered.
--
-- Functions of a library live as long as it is loaded, so its local variables outlive a call. State is assigned by `begin`, and for
-- the steps of a run by `begin_run`, at the start of each call and nowhere else: a call that failed halfway leaves nothing behind
-- (tests/contracts/test_library.py). backend/library.py puts KEY, the names of keys, and DIGEST, of this text, in front.

local call -- redis.call, which does not exist while a library is loaded
local now, now_us -- the server's clock in ms and µs: one moment for the whole call
local head -- the namespace, with its colon
local woken -- todos that were granted what they waited for: `run todo`

local function begin(keys)
  call = redis.call
  local time = call('TIME')
  now_us = time[1] * 1000000 + time[2]
  now = math.floor(now_us / 1000)
  head, woken = keys[1], {}
end

-- `counts`: how many keys and arguments the step takes, at least and at most.
local function register(name, flags, counts, prepare, step)
  redis.register_function {
    function_name = name .. '_' .. DIGEST,
    flags = flags,
    callback = function(keys, args)
      if #keys < counts[1] or #keys > counts[2] or #args < counts[3] or #args > counts[4] then
        return redis.error_reply(string.format('ERR step %s was called with %d keys and %d arguments', name, #keys, #args))
      end
      begin(keys)
      if prepare then prepare(keys, args) end
      return step(keys, args)
    end,
  }
end
