"""Exclusive locks on Redis: SET NX PX with a time to live, a token that alone may renew and release, and a fence that only grows.

A lock says who may act; the fence lets whoever is acted upon refuse a holder that no longer is one. The holder learns of a
lost lock from `renew`, which is false once the key expired or belongs to somebody else. What happens on failure: the holder
dies → the key expires after its ttl; Redis restarts with data → nothing changes; without data → the lock is free, and its next
fence is higher all the same, because it is never below the server's clock in microseconds.
"""

from coordination.locks.guard import Guard
from coordination.locks.lock import Lock
from coordination.locks.manager import LockManager
from coordination.locks.owner import Owner

__all__ = ["Guard", "Lock", "LockManager", "Owner"]
