"""Store results of todos by their keys, in the cache's store on Redis, and lock the keys in work.

A value is the SHA-256 of its rest; a line of JSON (run, todo, time, tree, output, signed record); and the
patch, packed. It is written whole, once; one with a wrong digest counts as none, and so does one that no
trusted worker signed, where `signatures` is `require`.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from hashlib import sha256

from coordination.cache import Store
from coordination.cache.names import LONGEST_TTL, Limits
from coordination.locks import Lock, LockManager
from coordination.locks.request import RESULT
from coordination.runs.replies import Grant
from coordination.trust.results import CachedRecord, digest
from workers.trust.signed_results import SignedResults

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
    signed: str = ""
    """The signed statement of the worker that made it (trust/results.py)."""

    @cached_property
    def packed(self) -> bytes:
        names = ("run", "todo", "at", "tree", "output", "signed")
        head = {name: getattr(self, name) for name in names}
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

    def __init__(
        self, store: Store, locks: LockManager, limits: Limits, ttl: timedelta, signed_results: SignedResults
    ) -> None:
        self._signed_results = signed_results
        self._store = store
        self._locks = locks
        self._limits = limits
        self._ttl = ttl

    def load(self, grant: Grant, key: str, ttl: timedelta | None, now: float) -> Kept | None:
        """Return a sound result younger than the ttl (None: the usual one); None if there is none.

        Raises NotAllowed where it is not signed as this worker requires.
        """
        value = self._store.get(key)
        kept = Kept.unpacked(value) if value else None
        if value and kept is None:
            self.drop(key)
        if kept is None or now - kept.at >= (ttl or self._ttl).total_seconds():
            return None
        self._signed_results.check_cached(
            grant,
            kept.signed,
            key=key,
            at=kept.at,
            tree=kept.tree,
            output=kept.output,
            changes=kept.changes,
        )
        return kept

    def sign(self, kept: Kept, key: str, repo: str) -> Kept:
        """Return the result with this worker's statement of it."""
        record = CachedRecord(
            run=kept.run,
            todo=kept.todo,
            repo=repo,
            key=key,
            at=kept.at,
            tree=kept.tree,
            output=digest(kept.output),
            changes=digest(kept.changes),
        )
        return replace(kept, signed=self._signed_results.seal_cached(record))

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
