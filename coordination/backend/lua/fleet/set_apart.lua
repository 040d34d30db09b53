-- A key that holds another type than coord keeps there is renamed, and forgotten after a week: who needs the name finds it free.
-- KEYS: the key, its new name   ARGV: the type that it should have, how long it is kept then in s
-- Returns: the type that it had, or '' where nothing had to be done.
local kind = call('TYPE', KEYS[1]).ok
if kind == 'none' or kind == ARGV[1] then return '' end
call('RENAME', KEYS[1], KEYS[2])
call('EXPIRE', KEYS[2], ARGV[2])
return kind
