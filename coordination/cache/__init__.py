"""The context cache on Redis: values that todos share, and what can be made again. Useful alone: `Store(redis, namespace, name)`.

`Store(redis, namespace, "results").put(key, value: bytes, ttl)`, `.get(key) -> bytes | None`, `.delete(key)`: values by a key of the
caller's (a digest, say), with ttl, size bound and eviction. Equal values are kept once, whoever put them.
"""

from coordination.cache.limits import Eviction, Limits
from coordination.cache.store import Store

__all__ = ["Eviction", "Limits", "Store"]
