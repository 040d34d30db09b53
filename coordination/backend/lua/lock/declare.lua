-- Says how much there is of each resource. What grew goes to whoever waits for it.
-- KEYS: head    ARGV: name and capacity in turn (0: there is no such resource any more)
-- Returns: nil
local names = {}
for i = 1, #ARGV, 2 do
  names[#names + 1] = ARGV[i]
  if ARGV[i + 1] == '0' then
    call('HDEL', head .. KEY.capacities, ARGV[i])
  else
    call('HSET', head .. KEY.capacities, ARGV[i], ARGV[i + 1])
  end
end
hand_over(names)
return nil
