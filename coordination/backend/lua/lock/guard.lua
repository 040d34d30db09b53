-- Makes the guard of a lock known: each grant of the lock raises it from now on.
-- KEYS: head    ARGV: the lock's typed name
-- Returns: nil
call('HSETNX', key(KEY.guard, ARGV[1]), 'refused', 0)
return nil
