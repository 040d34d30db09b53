"""Store results of todos by their keys, in the cache's store on Redis, and lock the keys in work.

A value is the SHA-256 of its rest; a line of JSON (run, todo, time, tree, output); and the patch, packed. It
is written whole, once; one with a wrong digest counts as none.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from hashlib import sha256

from coordination.cache import Store
from coordination.cache.limits import LONGEST_TTL, Limits
from coordination.locks import Lock, LockManager
from coordination.locks.internal import RESULT

NO_WAIT = timedelta(0)
TTL = timedelta(seconds=5)
"""How long after a worker's death its keys stay locked.

A lock that is lost too early costs a command that runs twice.
"""


@dataclass(frozen=True, kw_only=True)
class Kept:
    run: str
    todo: str
    at: float
    """Seconds since 1970, by the clock of the host that made it."""
    tree: str
    """The tree to which its changes lead."""
    output: str
    """JSON; empty without an output."""
    changes: bytes
    """A patch; empty if it changed nothing."""

    @cached_property
    def packed(self) -> bytes:
        head = {"run": self.run, "todo": self.todo, "at": self.at, "tree": self.tree, "output": self.output}
        rest = json.dumps(head).encode() + b"\n" + zlib.compress(self.changes)
        return sha256(rest).hexdigest().encode() + b"\n" + rest

    @staticmethod
    def unpacked(value: bytes) -> Kept | None:
        """Return the record; None if it is damaged, or of another version."""
        digest, _, rest = value.partition(b"\n")
        if digest != sha256(rest).hexdigest().encode():
            return None
        head, _, changes = rest.partition(b"\n")
        try:
            return Kept(**json.loads(head), changes=zlib.decompress(changes))
        except (ValueError, TypeError, zlib.error):
            return None


class Results:
    """The results of all hosts and runs. Each method raises Unreachable."""

    def __init__(self, store: Store, locks: LockManager, limits: Limits, ttl: timedelta) -> None:
        self._store = store
        self._locks = locks
        self._limits = limits
        self._ttl = ttl

    def load(self, key: str, ttl: timedelta | None, now: float) -> Kept | None:
        """Return a sound result younger than the ttl (None: the usual one); None if there is none."""
        value = self._store.get(key)
        kept = Kept.unpacked(value) if value else None
        if value and kept is None:
            self.drop(key)
        return kept if kept and now - kept.at < (ttl or self._ttl).total_seconds() else None

    def too_large(self, kept: Kept) -> str:
        """Return why a result cannot be kept; empty if it can."""
        size, most = len(kept.packed), self._limits.value_bytes
        return f"it has {size:,} bytes, more than cache_value_bytes ({most:,})" if size > most else ""

    def save(self, key: str, kept: Kept, ttl: timedelta | None) -> None:
        """Keep a result. Raises NoRoom, too."""
        self._store.put(key, kept.packed, min(ttl or self._ttl, LONGEST_TTL))

    def drop(self, key: str) -> None:
        self._store.delete(key)

    def alone(self, key: str, who: str) -> Lock:
        """Lock the key until the lock is released or its worker dies. Raises LockTimeout with the holder."""
        return self._locks.acquire(f"{RESULT}{key}", ttl=TTL, wait=NO_WAIT, owner=who)

    def close(self) -> None:
        self._locks.close()
        self._store.close()
