-- Rename a key that has another type than coord expects, and delete it after a while: the name becomes free.
-- KEYS: the key, its new name   ARGV: the expected type, how long it is kept in s
-- Returns: the type that it had, or '' if nothing had to be done.
local kind = call('TYPE', KEYS[1]).ok
if kind == 'none' or kind == ARGV[1] then return '' end
call('RENAME', KEYS[1], KEYS[2])
call('EXPIRE', KEYS[2], ARGV[2])
return kind
