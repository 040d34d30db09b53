"""The common core of locks and resources: a request is granted, renewed and released.

Each manager has one thread that renews its locks at a third of their ttl, and marks lost locks. It starts
with the first lock, and is woken for a new lock only if that is due before its next wake-up, so that a loop
that acquires and releases locks does not pay for a thread switch each time.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

from coordination.backend.client import ANSWER_S
from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import Step
from coordination.backend.steps import lock as steps
from coordination.background import BackgroundService
from coordination.durations import now_s
from coordination.errors import CoordinationError, UsageError
from coordination.locks.deadlock import Detector
from coordination.locks.lock import Lock
from coordination.locks.request import LockTerms, Owner, current_owner
from coordination.locks.waiting import PATIENCE_S, Waiting

logger = logging.getLogger(__name__)

PART_OF_TTL = 3
NEVER_S = float("inf")
R = TypeVar("R")


class Renewal(BackgroundService):
    """Renews locks: a round renews those that are due."""

    name = "lock-renewal"
    join_s = 30.0

    def __init__(self, renew: Callable[[Lock, float], bool]) -> None:
        self._renew = renew
        self._reset_state()
        _renewals.add(self)

    def _reset_state(self) -> None:
        super().__init__()
        self._guard = threading.Lock()
        self._due_s: dict[Lock, float] = {}
        self._wakes_s = NEVER_S

    def add(self, lock: Lock) -> None:
        now = now_s()
        due_s = now + (lock.deadline_s - now) / PART_OF_TTL
        with self._guard:
            self._due_s[lock] = due_s
            if due_s < self._wakes_s and not self.stopping.is_set():
                # Kept even if the lock is released by then: the thread then looks for the next one.
                self._wakes_s = due_s
                self.start()
                self.wake()

    def remove(self, lock: Lock) -> None:
        with self._guard:
            self._due_s.pop(lock, None)

    def run_once(self) -> list[Lock]:
        """Renew the locks that are due; return them."""
        with self._guard:
            if now_s() < self._wakes_s:  # woken in order to wait for less time
                return []
            due = [lock for lock, due_s in self._due_s.items() if due_s <= now_s()]
        for lock in due:
            self._renew_due(lock)
        with self._guard:
            self._wakes_s = min(self._due_s.values(), default=NEVER_S)
        return due

    def until_next_s(self) -> float | None:
        with self._guard:
            return None if self._wakes_s == NEVER_S else max(0.0, self._wakes_s - now_s())

    def _renew_due(self, lock: Lock) -> None:
        left_s, ttl_s = lock.deadline_s - now_s(), lock.ttl.total_seconds()
        kept = left_s > 0
        try:
            if kept:
                kept = self._renew(lock, self._patience_s())
            next_s = lock.deadline_s - ttl_s * (1 - 1 / PART_OF_TTL)
        except CoordinationError as error:
            logger.warning(
                "lock %s cannot be renewed and expires in %.1f s: %s", lock.name, left_s, error.message
            )
            next_s = min(now_s() + ttl_s / (3 * PART_OF_TTL), lock.deadline_s)
        with self._guard:
            if lock not in self._due_s:
                return  # released in the meantime
            if kept:
                self._due_s[lock] = next_s
            else:
                del self._due_s[lock]
                lock.lost.set()
                logger.warning("lock %s (fence %d) is lost", lock.name, lock.fence)

    def _patience_s(self) -> float:
        """Return the limit for an answer, so that no lock expires unnoticed while another one's renewal
        waits.
        """
        with self._guard:
            return min((lock.deadline_s for lock in self._due_s), default=now_s()) - now_s()


_renewals: weakref.WeakSet[Renewal] = weakref.WeakSet()


def _reset_in_child() -> None:
    """Reset the state in a forked child: the thread does not exist there, `_guard` may be locked, and the
    locks are the parent's.
    """
    for renewal in _renewals:
        renewal._reset_state()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)


class LockCore:
    def __init__(self, connection: StepConnection, namespace: str, owner: Owner | None) -> None:
        self.connection = connection
        self.keys = Keys(namespace).locks
        self._owner = owner
        self._waiting = Waiting(connection, self.keys, Detector(connection, self.keys))
        self._renewal = Renewal(self.renew)
        self._closed = False

    def grant(self, wants: tuple[str, ...], names: tuple[str, ...], terms: LockTerms) -> Lock:
        if self._closed:
            raise UsageError("this lock manager is closed", "make another one")
        granted = self._waiting.ask(wants, terms, self._owner or current_owner(terms.owner))
        lock = Lock(granted, names, terms.ttl, renew=self.renew, release=self.release)
        if terms.keep:
            self._renewal.add(lock)
        return lock

    def renew(self, lock: Lock, patience_s: float = ANSWER_S) -> bool:
        since_s = now_s()
        if not self.call(steps.Renew(request=lock.token), patience_s):
            return False
        lock.deadline_s = since_s + lock.ttl.total_seconds()
        return True

    def release(self, lock: Lock) -> bool:
        self._renewal.remove(lock)
        return self.call(steps.Release(request=lock.token, party=lock.party), PATIENCE_S)

    def call(self, step: Step[R], patience_s: float = ANSWER_S) -> R:
        return self.connection(step, [self.keys.head], patience_s=patience_s)

    def close(self) -> None:
        self._closed = True
        self._renewal.stop()
        self.connection.close()
