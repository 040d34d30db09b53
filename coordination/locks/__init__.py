"""Locks that are really exclusive, and resources with a capacity, on Redis. Useful alone: `LockManager(redis, namespace)`.

States. A *request* wants one or several names at once: a lock alone or shared, an amount of a resource. It is

    asked ──► held ──► released                   by its holder
      │         └────► lost                       its ttl went by unrenewed, Redis lost its data, or somebody took it away
      ├──► waiting ──► held                       whoever frees a name grants it to the next, in the same step
      │         ├────► withdrawn                  its wait is over, it gives way in a deadlock, or it was interrupted
      │         └────► forgotten                  it did not renew its place for 3 s: it is dead, or far away
      └──► taken                                  it does not wait

Invariants. Each change of state is one Lua step, all of it or nothing.
1.  A name that is held alone has one holder; shares never exceed the capacity; shared and alone exclude each other.
2.  A request holds all that it wants, or nothing: nobody holds one thing while waiting for the rest *of the same request*.
    (One thread may hold one lock and wait for another; that is what the deadlock detector is for.)
3.  A fence is higher than every fence given out before, in the whole namespace, hence for each name; it is never below the
    server's clock in µs, so that a server that lost its data gives out no old one.
4.  A name goes to nobody behind somebody who stands in its queue; those who share pass those who share. The rank is the arrival
    less 5 s for each step of priority, and never changes: first come within a priority, and whoever waits long enough
    comes first whatever its priority, so that nobody starves. It is linear ageing without anything to be updated.
5.  Who waits stands in the queues of the names that it found taken, not of those that were free: it keeps nobody from what it
    could not use yet. When its turn comes it may find one of these taken; then it queues there too, at its old rank.
6.  Only the request that was granted a name renews or releases it (compare-and-delete). Sending a command twice is the same as
    sending it once: a request is known by its id, and the last release of an owner for 10 s.
7.  The holder's own deadline is counted from before the command was sent that granted or renewed it: it is over before Redis
    grants the name to anybody else, unless a clock runs wrong; the fence guards then.

What happens when
*   the holder dies: nobody renews, and the name is free after its ttl; whoever is first in its queue asks at that moment.
*   the holder is stopped (SIGSTOP, swap, a sleeping laptop) for longer: as above. When it goes on, `check` raises LockLost, since
    its clock counted on while it slept (clock.py), `lost` is set by its renewal thread, and what it writes all the same is
    refused where that is checked by fence: `guard` (guard.py), run states, git's compare-and-swap.
*   the renewal thread cannot reach Redis: it asks again until the deadline, then sets `lost`; it waits for no answer longer.
*   a waiter dies: its place is forgotten after 3 s. If it is handed a name while dead, it keeps it for 3 s at most (or its ttl
    if that is shorter): what is handed over is prolonged to the whole ttl by its first renewal, a third of that later.
*   a wake-up is lost (Redis restarts, a connection drops): the waiter asks each second anyhow, and when a holder expires.
*   Redis is gone or hangs while somebody waits: it is asked again for up to 3 s and within the wait (but for 0.5 s at least; a
    single try for 2 s), then the waiter has Unreachable. Its place is forgotten; if it was granted meanwhile, that expires.
*   Redis restarts with its data: holders and queues are as before, less what the time has ended. With `appendfsync everysec`,
    up to 2 s of it may be gone: a lock that was granted then is lost like all others below.
*   Redis loses its data, or another one answers: every lock is lost; the next renewal says so. Waiters ask again and keep their
    rank. New fences are higher than all before, and the `epoch` of a lock, made once per data, is another one.
    Until its next renewal an old holder and a new one may both believe: this is what fences and `guard` are for, which
    refuses fences from before the epoch.
*   Redis refuses (ACL, full disk, read-only replica): Unusable or Unreachable, with what to do. Nothing weaker is tried instead.
*   somebody sets a client's clock: nothing reads it. If the *server's* clock jumps, Redis' own ttls jump with it: locks expire too
    early (they are lost, as above) or too late. Fences grow all the same.
*   a process forks: the child renews, holds and gives back nothing of its parent's; its copies of the locks say LockLost.
*   a resource shrinks below what somebody waits for: the waiter has UsageError, at its next look.
*   two wait for each other: deadlock.py; after a second one of them gives way with DeadlockError.
*   something of the dead is left (an owner's index, a queue nobody stands in): sweeper.py.

There is one Redis, and failover to a replica may lose the last writes: that is "loses its data" above. Redlock over several
masters is not built: it leans on clocks where a fence does not, and its critics are right about that.

Sources. SET NX PX and compare-and-delete: the Redis documentation, "Distributed Locks with Redis". Fences, and why a lock alone is
not enough: M. Kleppmann, "How to do distributed locking" (2016). A queue with direct hand-over instead of polling: J. Mellor-Crummey
and M. Scott, "Algorithms for Scalable Synchronization on Shared-Memory Multiprocessors" (1991). Asking for everything at once:
E. Coffman et al., "System Deadlocks" (1971). Ageing by arrival less weight: L. Kleinrock, "A delay dependent queue discipline" (1964).

| file | |
|---|---|
| `manager.py` `lock.py` `resources.py` `guard.py` | what users have in hand |
| `owner.py` `wants.py` `clock.py` | who asks; for what, on which terms, judged before anything is sent; the clock of deadlines |
| `core.py` `waiting.py` | a request is granted, kept and given back; the loop of who waits; the thread that renews |
| `deadlock.py` `wait_graph.py` | who looks and who is told; the judgement, pure, and its facts |
| `listing.py` `force_release.py` `wording.py` | for people: who holds and waits; a lock is taken away; in words |
| `sweeper.py` | what the dead have left |

The steps: backend/lua/lock, called over connections of their own (backend/step_connection.py). The keys: backend/keys.py.
"""

from coordination.locks.guard import Guard
from coordination.locks.lock import Lock
from coordination.locks.manager import LockManager
from coordination.locks.owner import Owner

__all__ = ["Guard", "Lock", "LockManager", "Owner"]
