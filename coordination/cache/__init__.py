"""The context cache: values that todos share, and what can be made again. Over two layers, this process and Redis.

`Store(redis, namespace, "results").put(key, value: bytes, ttl)`, `.get(key) -> bytes | None`, `.delete(key)`: bytes by a key of the caller's
(a digest, say). `contexts.Cache(redis, namespace).at(plan, run, todo)`: JSON by key, in a tree. Both share one size, and equal values are
kept once, whoever put them.

The tree. ecosystem ◄ plan ◄ (runs that a run carries on) ◄ run ◄ todo. A read looks from where it is asked outward, and the nearest
entry counts; a write goes to one context, of a todo to its run's unless it says otherwise, so that a child never changes its parent's. What is
deleted where an outer context has a value is *hidden*: an entry without a value, for as long as its ttl says. It is a cache: any value
may be gone at the next look, evicted or expired, and whoever reads one knows what to do then.

Invariants. Each change is one Lua step (backend/lua/cache), all of it or nothing, whoever is killed.
1.  `refs` counts exactly the entries that have a value, and a value is there as long as one has it. `bytes` is exactly the sum of the
    values, each once, and of what names and records take (measured, see _cache.lua).
2.  `bytes` never exceeds the limit of who wrote last: a step first makes room, then keeps. It evicts 100 entries at most; where that
    is not enough it has kept nothing, and is called again. So no step is O(all entries), and no other caller waits for one that is.
3.  What hides a value is never evicted, or that value would come back. It expires.
4.  Who is evicted is told by one sorted set, the lowest first: the number of the last use (lru; counted, so that no clock disturbs
    it), how often it was used and what the last evicted one had (lfu), or the expiry (ttl). What expired goes in pieces of 20 with each
    write, and by the worker that leads every half minute (disk.py).
5.  Patterns are matched against the keys of the contexts that are meant, 500 at a time (HSCAN of their hashes). No step and no
    command goes through the keyspace.
6.  Each write gives its context a *generation* that was never given before: the last one plus 1, and never below the server's clock in µs.

Why what this process has read may be believed (local.py). Each answer of Redis names the generation of each context that was asked. What
was read of a context is in force as of an answer that names the generation under which it was read; with any other generation, all that
was read of it goes. An answer is believed for half a second from when it was *asked for*, so that
*   a read is stale by at most half a second, whatever gets lost: there is no message that has to arrive, no connection that must stay
    open, and no thread that must be alive. That is why it is numbers and not messages (client-side caching by Redis' CLIENT
    TRACKING, or pub/sub): those are sooner, and whoever misses one is wrong for as long as the ttl;
*   who asks often asks Redis twice a second for each key that it uses, which is also how Redis knows what is in use;
*   a process reads its own writes: what it writes goes from its layer at once, and no answer that was asked for before is kept;
*   what is not there is always asked for: who waits for a value sees it at once. What is kept is bounded (16 MB, oldest use first), as
    JSON text, so that nobody changes what another one reads, and ends with its ttl by a steady clock.

What happens when
*   a writer is killed: its last step has run whole or not at all. In a write that needed several steps the old value may be gone.
*   who computes (`get_or_compute`) is killed: its lock (single_flight.py, locks/) ends after 10 s, and the next one computes. If it was only
    stopped for so long, two compute, and the later one's value counts.
*   Redis is away: Unreachable, after the patience of a Line. Nothing weaker is tried instead.
*   Redis loses its data: all is gone, generations are new. With `cache_folder` (disk.py) it is put back within half a minute, beside
    what was written meanwhile: ecosystem, plans and stores, as they were at most half a minute before. Contexts of runs go with the runs.
*   the server's clock jumps forward: what would have expired by then is expired. Back: an entry that has more left than its whole ttl
    was written under a clock that no longer counts, and is over; any other lives longer by its age at most. Eviction by use has no clock.
*   callers differ in limits or policy: each step goes by its caller's; ranks of one policy are then read as those of another.
*   a run is forgotten or cleaned: its contexts, and those of its todos, go with it (runs/expiry.py).

It stands above locks, since one of many who compute holds one; `store.py` and the rest need none.

Sources. LFU with dynamic aging: M. Arlitt, L. Cherkasova, J. Dilley, R. Friedrich and T. Jin, "Evaluating Content Management Techniques for Web
Proxy Caches" (2000). One who computes: `singleflight` of Go's groupcache (B. Fitzpatrick, 2013), here over processes.

| file | |
|---|---|
| `contexts.py` `store.py` `connection.py` | what users have in hand: contexts; bytes; the context of the todo whose command this is |
| `entries.py` `local.py` | the two layers: steps on Redis; what this process has read |
| `names.py` `limits.py` | keys, patterns, contexts and how much, judged before anything is sent |
| `single_flight.py` `scan.py` `stats.py` | one who computes; a page of entries at a time; figures |
| `document.py` `disk.py` | export and import; the folder, and what the leader does every half minute |
"""

from coordination.cache.entries import Store
from coordination.cache.limits import Eviction, Limits

__all__ = ["Eviction", "Limits", "Store"]
