"""What `acquire` gives: the right to act until it is released or lost."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from coordination.errors import CoordinationError, LockLost
from coordination.locks.clock import now_s
from coordination.locks.waiting import Granted

LOST_HINT = "give it a longer ttl, check Redis, or see who took it away: coord list-locks --released"
logger = logging.getLogger(__name__)


class Lock:
    """Held from the moment it is returned. `fence` is higher than that of every earlier holder of each of its names."""

    def __init__(
        self,
        granted: Granted,
        names: tuple[str, ...],
        ttl: timedelta,
        *,
        renew: Callable[[Lock], bool],
        release: Callable[[Lock], bool],
    ) -> None:
        self._renew, self._release = renew, release
        self.token = granted.token
        self.party = granted.party
        self.names = names
        self.ttl = ttl
        self.fence = granted.fence
        self.epoch = granted.epoch
        """Which data of Redis it stands in: another one says that everything before was lost."""
        self.lost = threading.Event()
        """Set when it is known to be lost: stop what it protects."""
        self.released = False
        self.deadline_s = granted.until_s
        self._process = os.getpid()

    @property
    def name(self) -> str:
        return ", ".join(self.names)

    @property
    def remaining_s(self) -> float:
        """For how long it is ours at least, without another renewal: by our own clock, counted from before we asked."""
        gone = self.released or self.lost.is_set() or self._is_a_parents
        return 0.0 if gone else max(0.0, self.deadline_s - now_s())

    def check(self) -> None:
        """Raises LockLost where it is lost, or may be: call it before each thing that must not be done twice."""
        self._refuse_children()
        if self.released:
            raise LockLost(f"lock {self.name} was released", "acquire it again")
        if self.lost.is_set() or now_s() >= self.deadline_s:
            self.lost.set()
            raise LockLost(f"lock {self.name} is lost: it was not renewed in time, or taken away", LOST_HINT)

    def renew(self) -> bool:
        """For another ttl from now. False where it is lost: stop what it protects."""
        if self.released or self.lost.is_set() or self._is_a_parents:
            return False
        if not self._renew(self):
            self.lost.set()
        return not self.lost.is_set()

    def release(self) -> None:
        """Raises LockLost where it was not ours any more, or released before."""
        self._refuse_children()
        if self.released:
            raise LockLost(f"lock {self.name} was released before", "release it once")
        self.released = True
        if not self._release(self):
            self.lost.set()
            raise LockLost(f"lock {self.name} was lost before it was released", LOST_HINT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.released:
            return
        try:
            self.release()
        except CoordinationError as trouble:
            if error is None:
                raise
            logger.warning("%s, while %r was raised under it", trouble.message, error)

    @property
    def _is_a_parents(self) -> bool:
        """Whether this process was forked from the one that holds it."""
        return os.getpid() != self._process

    def _refuse_children(self) -> None:
        if self._is_a_parents:
            raise LockLost(f"lock {self.name} is held by the process that this one was forked from", "acquire it here")

    def __repr__(self) -> str:
        return f"<Lock {self.name} fence {self.fence}>"
