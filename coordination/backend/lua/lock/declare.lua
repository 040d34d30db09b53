-- Set the capacity of resources. Added capacity is offered to the waiting requests.
-- KEYS: head    ARGV: name and capacity in turn (0: the resource does not exist any more)
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
offer_names(names)
return nil
