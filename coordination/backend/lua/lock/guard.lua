-- Create the guard of a lock: from now on each grant of the lock raises it.
-- KEYS: head    ARGV: the lock's typed name
-- Returns: nil
call('HSETNX', key(KEY.guard, ARGV[1]), 'refused', 0)
return nil
