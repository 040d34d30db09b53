"""A register in Redis that takes writes only from whoever was granted its lock last.

A holder may be stopped for longer than its ttl and know nothing of it (Kleppmann, "How to do distributed locking", 2016): so what
it writes carries its fence, and is refused here once somebody else was granted the lock, or Redis lost its data, even where
that somebody has written nothing yet. The same rule elsewhere: run states in wire/lua/run, git by compare-and-swap.
"""

from __future__ import annotations

import logging

from coordination.errors import StaleFence
from coordination.locks.granting import Granting

logger = logging.getLogger(__name__)


class Guard:
    """Make it before the work begins: grants raise it from then on."""

    def __init__(self, granting: Granting, name: str) -> None:
        self._granting = granting
        self.name = name
        granting.step("lock/guard", self._what)

    def write(self, value: str, fence: int) -> None:
        """Raises StaleFence; that is counted, and logged."""
        self._refuse_stale(fence, self._granting.step("lock/write", self._what, fence, value))

    def check(self, fence: int) -> None:
        """Raises StaleFence where `write` would."""
        self._refuse_stale(fence, self._granting.step("lock/write", self._what, fence))

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
        return f"lock:{self.name}"

    @property
    def _key(self) -> str:
        return self._granting.keys.guard(self._what)

    def _refuse_stale(self, fence: int, answer: list[str] | int) -> None:
        if isinstance(answer, int):
            return
        logger.warning("lock %s: refused fence %d, the newest is %s", self.name, fence, answer[0])
        raise StaleFence(
            f"lock {self.name} was granted to somebody else since: fence {fence} is older than {answer[0]}",
            "undo nothing, and acquire it again",
        )
