"""The lock that `acquire` returns: valid until it is released or lost."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from coordination.durations import now_s
from coordination.errors import CoordinationError, LockLost
from coordination.locks.waiting import Granted

LOST_HINT = "use a longer ttl, check Redis, or see who released it by force: coord lock released"
logger = logging.getLogger(__name__)


class Lock:
    """A held lock. Its `fence` is higher than that of every earlier holder of each of its names."""

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
        """Data set of Redis in which the lock was granted; a different value means that earlier data was
        lost.
        """
        self.lost = threading.Event()
        """Set once the lock is known to be lost; the protected work must stop."""
        self.released = False
        self.deadline_s = granted.until_s
        self._process = os.getpid()

    @property
    def name(self) -> str:
        return ", ".join(self.names)

    @property
    def remaining_s(self) -> float:
        """Minimal time for which the lock is held without another renewal, by the local clock."""
        gone = self.released or self.lost.is_set() or self._is_inherited
        return 0.0 if gone else max(0.0, self.deadline_s - now_s())

    def check(self) -> None:
        """Raise LockLost if the lock is or may be lost. Call it before each action that must not happen
        twice.
        """
        self._check_same_process()
        if self.released:
            raise LockLost(f"lock {self.name} was released", "acquire it again")
        if self.lost.is_set() or now_s() >= self.deadline_s:
            self.lost.set()
            raise LockLost(
                f"lock {self.name} is lost: it was not renewed in time, or was released by force", LOST_HINT
            )

    def renew(self) -> bool:
        """Renew the lock for another ttl. Returns False if it is lost; the protected work must stop."""
        if self.released or self.lost.is_set() or self._is_inherited:
            return False
        if not self._renew(self):
            self.lost.set()
        return not self.lost.is_set()

    def release(self) -> None:
        """Release the lock. Raises LockLost if it was lost or released before."""
        self._check_same_process()
        if self.released:
            raise LockLost(f"lock {self.name} was released before", "release it only once")
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
    def _is_inherited(self) -> bool:
        """Return whether this process was forked from the holder."""
        return os.getpid() != self._process

    def _check_same_process(self) -> None:
        if self._is_inherited:
            raise LockLost(
                f"lock {self.name} is held by the process that this one was forked from", "acquire it here"
            )

    def __repr__(self) -> str:
        return f"<Lock {self.name} fence {self.fence}>"
