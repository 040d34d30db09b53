"""A register in Redis that accepts writes only with the newest fence of its lock.

A holder may be stopped for longer than its ttl without noticing (Kleppmann, "How to do distributed locking",
2016). So its writes carry its fence and are refused after another request was granted the lock, or Redis lost
its data, even if that other holder has not written yet. The same rule applies to run states (backend/lua/run)
and to git by compare-and-swap.
"""

from __future__ import annotations

import logging
import reprlib

from coordination.backend.keys import lock
from coordination.backend.steps import lock as steps
from coordination.errors import StaleFence, UsageError
from coordination.locks.core import LockCore
from coordination.locks.request import is_whole

logger = logging.getLogger(__name__)

LONGEST_VALUE = 1024**2
"""Maximal size in bytes."""
HIGHEST_FENCE = 2**53
"""Upper limit of fences: Lua cannot distinguish larger neighbours; the clock in µs reaches it in the year
2255.
"""


class Guard:
    """Register of a lock. Create it before the work starts: only later grants raise its fence."""

    def __init__(self, core: LockCore, name: str) -> None:
        self._core = core
        self.name = name
        core.call(steps.Guard(lock=self._what))

    def write(self, value: str, fence: int) -> None:
        """Write text of up to 1 MiB. Raises StaleFence, also for a fence that was never issued; refusals are
        counted and logged.
        """
        _check_value(value)
        self._ask(fence, value)

    def check(self, fence: int) -> None:
        """Raise StaleFence if `write` would."""
        self._ask(fence)

    def read(self) -> tuple[str | None, int]:
        """Return the value and the fence of its writer; None and 0 before the first write."""
        value, fence = self._core.connection.send("HMGET", self._key, "value", "fence")
        return value, int(fence or 0)

    @property
    def refused(self) -> int:
        """Number of refused writes and checks."""
        return int(self._core.connection.send("HGET", self._key, "refused") or 0)

    @property
    def _what(self) -> str:
        return lock(self.name)

    @property
    def _key(self) -> str:
        return self._core.keys.guard(self._what)

    def _ask(self, fence: int, *value: str) -> None:
        if not is_whole(fence, 0, HIGHEST_FENCE):
            raise UsageError(f"{reprlib.repr(fence)} is not a fence", "pass the one of the lock: lock.fence")
        refusal = self._core.call(steps.Write(lock=self._what, fence=fence, value=value))
        if refusal is not None:
            raise self._refused(fence, refusal)

    def _refused(self, fence: int, refusal: steps.RefusedWrite) -> StaleFence:
        newest = refusal.newest
        logger.warning("lock %s: refused fence %d, the newest is %s", self.name, fence, newest)
        if refusal.why == "unknown":
            fact = f"fence {fence} of lock {self.name} was never issued by this Redis: the newest is {newest}"
        else:
            fact = f"lock {self.name} was granted again since: fence {fence} is older than {newest}"
        return StaleFence(fact, "acquire the lock again; nothing was written")


def _check_value(value: object) -> None:
    try:
        if isinstance(value, str) and len(value.encode()) <= LONGEST_VALUE:
            return
    except UnicodeEncodeError:
        pass
    raise UsageError("a guard accepts text of at most 1 MiB", "write JSON, or a reference to larger data")
