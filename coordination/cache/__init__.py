"""The context cache: values that todos share, and values that can be recomputed, in two layers: this process
and Redis.

`Store(redis, namespace, "results")` holds bytes by a key of the caller's, for example a digest: `.put(key,
value, ttl)`, `.get(key)`, `.delete(key)`. `contexts.Cache(redis, namespace).at(plan, run, todo)` holds JSON
by key in a tree. Both share one size limit, and equal values are stored once.

The tree. ecosystem ◄ plan ◄ (runs that a run continues) ◄ run ◄ todo. A read searches from its context
outward, and the nearest entry counts. A write goes to one context, from a todo to its run's by default, so a
child never changes its parent's values. Deleting a key that an outer context has *hides* it by an entry
without a value (a tombstone), for the entry's ttl. As in any cache, a value may be evicted or expired at the
next read, and readers must handle that.

Invariants. Each change is one atomic Lua step (backend/lua/cache), whichever process is killed.

1. `refs` counts exactly the entries with a value, and a value exists as long as an entry has it. `bytes` is
   exactly the size of the distinct values plus that of names and records (measured, see _cache.lua).
2. `bytes` never exceeds the limit of the last writer: a step first makes room, then stores. It evicts at most
   100 entries; if that does not suffice, it stores nothing and is called again. So no step takes O(all
   entries), and no other caller waits for one that does. A value that can never fit evicts nothing.
3. A tombstone is never evicted, because the hidden value would reappear. It expires.
4. One sorted set decides on eviction, the lowest score first: the number of the last use (lru; a counter,
   independent of clocks), the number of uses plus the score of the last evicted entry (lfu), or the expiry
   (ttl). Expired entries are removed in pieces of 20 with each write, and by the leading worker every half
   minute (copies.py).
5. Patterns are matched against the keys of the contexts in question, 500 at a time (HSCAN of their hashes).
   No step or command scans the keyspace.
6. Each write gives its context a new *generation*: the last one plus 1, and never below the server's clock in
   µs.

Validity of the local layer (local.py). Each answer of Redis names the generation of each context involved.
Values read from a context are valid as of an answer that names the generation under which they were read; any
other generation discards them all. An answer is valid for half a second from the time the *request* was sent.
Therefore

* a read is stale by at most half a second, whatever is lost: it depends on no message, open connection or
  live thread. This is why generations are used instead of invalidation messages (Redis' CLIENT TRACKING, or
  pub/sub): messages are faster, but a lost one leaves a wrong value until its ttl ends;
* a frequent reader asks Redis twice a second for each key that it uses, by which Redis learns which entries
  are in use;
* a process reads its own writes: a write removes the local value at once, and answers to earlier requests are
  discarded;
* missing keys are always requested, so a process that waits for a value sees it at once.

The local layer is bounded (16 MB, least recently used first), holds JSON text, so that no caller can modify
another's value, and honours the ttl by a monotonic clock.

Failures:

* A writer is killed: its last step has run completely or not at all. A key keeps its value until the step
  that replaces it.
* A process in `get_or_compute` is killed: its lock (contexts.py, locks/) expires after 10 s, and the next
  process computes. If it was only stopped for that long, two compute, and the later value counts.
* Redis is unreachable: Unreachable, after the connection's patience. There is no fallback.
* Redis loses its data: everything is gone, and generations are new. With `cache_folder` (copies.py), values
  of ecosystem, plans and stores are restored within half a minute, as of at most half a minute before the
  loss, without overwriting newer ones. Contexts of runs are lost with their runs.
* The server's clock jumps forward: entries that would have expired by then are expired. Back: an entry with
  more time left than its whole ttl was written under the earlier clock and counts as expired; others live
  longer by at most their age. Eviction by use does not depend on clocks.
* Callers differ in limits or policy: each step uses its caller's; scores of one policy are then compared with
  those of another.
* A run is deleted or cleaned: its contexts and those of its todos are deleted with it
  (runs/maintenance/expiry.py).

The package is above locks, which `get_or_compute` uses; the other modules need none.

Sources. LFU with dynamic aging: M. Arlitt, L. Cherkasova, J. Dilley, R. Friedrich and T. Jin, "Evaluating
Content Management Techniques for Web Proxy Caches" (2000). Computing once: `singleflight` of Go's groupcache
(B. Fitzpatrick, 2013), here across processes.

| module | content |
|---|---|
| `contexts.py` | contexts: JSON values in a tree; statistics |
| `connection.py` | the context of the todo whose command this process is |
| `entries.py` `local.py` | the two layers: entries in Redis and stores of bytes; local values |
| `names.py` | validation of keys, patterns and contexts; limits of size and lifetime, eviction |
| `copies.py` | export and import; the folder, and the leader's periodic job |
"""

from coordination.cache.entries import Store
from coordination.cache.names import Eviction, Limits

__all__ = ["Eviction", "Limits", "Store"]
