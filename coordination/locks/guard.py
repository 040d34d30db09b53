"""A register in Redis that takes writes only from whoever was granted its lock last.

A holder may be stopped for longer than its ttl and know nothing of it (Kleppmann, "How to do distributed locking", 2016): so what
it writes carries its fence, and is refused here once somebody else was granted the lock, or Redis lost its data, even where
that somebody has written nothing yet. The same rule elsewhere: run states in backend/lua/run, git by compare-and-swap.
"""

from __future__ import annotations

import logging
import reprlib

from coordination.backend.keys import lock
from coordination.errors import StaleFence, UsageError
from coordination.locks.core import Granting
from coordination.locks.wants import is_whole

logger = logging.getLogger(__name__)

LONGEST_VALUE = 1024**2
"""In bytes."""
HIGHEST_FENCE = 2**53
"""Beyond it, steps in Redis tell no neighbours apart; the clock in µs is there in the year 2255."""


class Guard:
    """Make it before the work begins: grants raise it from then on."""

    def __init__(self, granting: Granting, name: str) -> None:
        self._granting = granting
        self.name = name
        granting.step("lock/guard", self._what)

    def write(self, value: str, fence: int) -> None:
        """`value`: text up to 1 MiB. Raises StaleFence, also for a fence that was never given out; that is counted, and logged."""
        _check_value(value)
        self._ask(fence, value)

    def check(self, fence: int) -> None:
        """Raises StaleFence where `write` would."""
        self._ask(fence)

    def read(self) -> tuple[str | None, int]:
        """The value with the fence that wrote it; None and 0 before the first."""
        value, fence = self._granting.line.send("HMGET", self._key, "value", "fence")
        return value, int(fence or 0)

    @property
    def refused(self) -> int:
        """How many writes and checks of old fences there were."""
        return int(self._granting.line.send("HGET", self._key, "refused") or 0)

    @property
    def _what(self) -> str:
        return lock(self.name)

    @property
    def _key(self) -> str:
        return self._granting.keys.guard(self._what)

    def _ask(self, fence: int, *value: str) -> None:
        if not is_whole(fence, 0, HIGHEST_FENCE):
            raise UsageError(f"{reprlib.repr(fence)} is no fence", "give the one of the lock: lock.fence")
        answer = self._granting.step("lock/write", self._what, fence, *value)
        if not isinstance(answer, int):
            raise self._refused(fence, *answer)

    def _refused(self, fence: int, why: str, newest: str) -> StaleFence:
        logger.warning("lock %s: refused fence %d, the newest is %s", self.name, fence, newest)
        if why == "unknown":
            words = f"fence {fence} of lock {self.name} was never given out by this Redis: its newest is {newest}"
        else:
            words = f"lock {self.name} was granted to somebody else since: fence {fence} is older than {newest}"
        return StaleFence(words, "undo nothing, and acquire it again")


def _check_value(value: object) -> None:
    try:
        if isinstance(value, str) and len(value.encode()) <= LONGEST_VALUE:
            return
    except UnicodeEncodeError:
        pass
    raise UsageError("what a guard keeps is text of 1 MiB at most", "write JSON, or a reference to more")
