"""Exclusive and shared locks, and resources with a capacity, on Redis. Usable on its own: `LockManager(redis,
namespace)`.

States. A *request* asks for one or several names at once: a lock, exclusive or shared, or an amount of a
resource. It is

    asked ──► held ──► released        by its holder
      │         └────► lost            its ttl expired, Redis lost its data, or it was released by force
      ├──► waiting ──► held            the step that frees a name grants it to the next request
      │         ├────► withdrawn       the wait is over or interrupted, or the request gives way in a deadlock
      │         └────► forgotten       it did not renew its place for 3 s: its process is dead or unreachable
      └──► taken                       the request does not wait

Invariants. Each change of state is one Lua step and atomic.
1.  An exclusively held name has one holder; amounts never exceed the capacity; shared and exclusive holders
    never coexist.
2.  A request holds all of its names or none: it never holds one while it waits for another *of the same
    request*. (One thread may hold one lock and wait for another; the deadlock detector handles that.)
3.  A fence is higher than every earlier fence in the whole namespace, hence for each name. It is never below
    the server's clock in µs, so a server that lost its data issues no old fence.
4.  A name is never granted to a request while another one is ahead of it in the queue; shared requests may
    pass shared ones. The rank is the arrival time less 5 s per step of priority, and never changes. So
    requests of equal priority are served in order of arrival, and a request that waits long enough comes
    first whatever its priority: nobody starves. This is linear ageing without updates.
5.  A waiting request is queued at the names that it found taken, not at those that were free, so it does not
    block names that it cannot use yet. If one of these is taken when its turn comes, it is queued there too,
    at its old rank.
6.  Only the request that was granted a name can renew or release it (compare-and-delete). Sending a command
    twice has the effect of sending it once: a request is identified by its id, and the last release of an
    owner is remembered for 10 s.
7.  The holder computes its own deadline from the time before it sent the command that granted or renewed the
    lock. So the deadline passes before Redis grants the name to another request, unless a clock is wrong;
    then the fence protects.

Failures
*   The holder dies: it does not renew, and the name is free after its ttl; the first in the queue asks at
    that moment.
*   The holder is stopped (SIGSTOP, swap, a sleeping laptop) for longer: as above. When it resumes, `check`
    raises LockLost, because its clock includes the time asleep (`now_s`); the renewal thread sets `lost`;
    and writes that are checked by fence are refused: `guard` (guard.py), run states, git's compare-and-swap.
*   The renewal thread cannot reach Redis: it retries until the deadline, then sets `lost`; it never waits
    longer for an answer.
*   A waiter dies: its place is forgotten after 3 s. If a name is granted to it while it is dead, it keeps the
    name for 3 s at most (or its ttl if that is shorter): a granted name is prolonged to the whole ttl by its
    first renewal, a third of that time later.
*   A wake-up is lost (Redis restarts, a connection breaks): the waiter asks every second anyway, and when a
    holder expires.
*   Redis is unreachable or hangs during a wait: the waiter retries for up to 3 s within the wait (at least
    0.5 s; a request without wait tries for 2 s) and then gets Unreachable. Its place is forgotten; a lock
    granted meanwhile expires.
*   Redis restarts with its data: holders and queues are as before, apart from what has expired. With
    `appendfsync everysec`, up to 2 s of it may be missing: a lock granted in that time is lost, as below.
*   Redis loses its data, or another server answers: every lock is lost, which its next renewal reports.
    Waiters ask again and keep their rank. New fences are higher than all earlier ones, and locks have a new
    `epoch`, which is created once per data set. Until its next renewal, an old holder and a new one may both
    believe that they hold the lock; fences and `guard`, which refuses fences from before the epoch, protect
    against that.
*   Redis refuses (ACL, full disk, read-only replica): Unusable or Unreachable, with a remedy. There is no
    weaker fallback.
*   A client's wall clock is changed: it is never read. If the *server's* clock jumps, Redis' own ttls jump
    with it: locks expire too early (they are lost, as above) or too late. Fences grow regardless.
*   A process forks: the child renews, holds and releases none of its parent's locks; its copies raise
    LockLost.
*   A resource shrinks below a waiting request's amount: the waiter gets UsageError when it asks next.
*   Requests wait for each other: after a second one of them gives way with DeadlockError (deadlock.py).
*   Dead processes leave entries (an owner's index, an unused queue): sweeper.py removes them.

There is one Redis; failover to a replica may lose the last writes, which is "loses its data" above. Redlock
over several masters is not implemented, because it depends on clocks where a fence does not.

Sources. SET NX PX and compare-and-delete: the Redis documentation, "Distributed Locks with Redis". Fences,
and why a lock alone is not sufficient: M. Kleppmann, "How to do distributed locking" (2016). A queue with
direct hand-over instead of polling: J. Mellor-Crummey and M. Scott, "Algorithms for Scalable Synchronization
on Shared-Memory Multiprocessors" (1991). Requesting everything at once: E. Coffman et al., "System Deadlocks"
(1971). Ageing by arrival less weight: L. Kleinrock, "A delay dependent queue discipline" (1964).

| module | content |
|---|---|
| `manager.py` `lock.py` `resources.py` `guard.py` | the public interface |
| `request.py` | owners, names and terms of requests, validated |
| `core.py` `waiting.py` | granting, renewal and release, with the renewal thread; waiting in a queue |
| `deadlock.py` | the wait-for graph, detection of deadlocks and choice of the request that gives way |
| `listing.py` | holders and waiters for people |
| `sweeper.py` | removes entries that dead processes left |

The Lua steps are in backend/lua/lock and use connections of their own (backend/step_connection.py); the keys
are defined in backend/keys.py and described in backend/key_table.py.
"""

from coordination.locks.guard import Guard
from coordination.locks.lock import Lock
from coordination.locks.manager import LockManager
from coordination.locks.request import Owner

__all__ = ["Guard", "Lock", "LockManager", "Owner"]
