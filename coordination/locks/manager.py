"""Locks by name: exclusive or shared, one or several at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from redis import Redis

from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import lock as steps
from coordination.locks.core import LockCore
from coordination.locks.deadlock import Circle, Detector
from coordination.locks.guard import Guard
from coordination.locks.listing import LOCK, Held, Listing
from coordination.locks.lock import Lock
from coordination.locks.release import ForceRelease
from coordination.locks.request import TTL, WAIT, LockTerms, Owner, check_name, of_locks, unique_names
from coordination.locks.resources import Resources, ResourceStats


@dataclass(frozen=True, kw_only=True)
class LockStats:
    """Figures of the namespace at this moment."""

    held: int
    """Number of held names of locks, resources and slots."""
    waiting: int
    """Number of waiting requests."""
    resources: Mapping[str, ResourceStats]


class LockManager(ForceRelease):
    """The locks of a namespace. `owner` identifies every caller; without it, each thread is an owner.

    Threads that share an owner count as one party: if one of them waits for a lock of another, that is a
    deadlock.
    """

    def __init__(self, redis: Redis, namespace: str, *, owner: Owner | None = None) -> None:
        self._core = LockCore(StepConnection(redis), namespace, owner)
        self.resources = Resources(self._core)
        self._listing = Listing(self._core.connection, self._core.keys)

    def acquire(
        self,
        name: str,
        *,
        ttl: timedelta = TTL,
        wait: timedelta = WAIT,
        owner: str = "",
        priority: int = 0,
        shared: bool = False,
        keep: bool = True,
    ) -> Lock:
        """Acquire a lock. `wait` 0 is a single try; `owner` is a label for people, recorded with host,
        process and thread.

        With `keep`, a thread renews the lock at a third of its ttl until it is released; without, a hanging
        holder loses it, which may be intended. Raises LockTimeout, DeadlockError, UsageError, Unreachable.
        """
        return self.acquire_many(
            (name,), ttl=ttl, wait=wait, owner=owner, priority=priority, shared=shared, keep=keep
        )

    def acquire_many(
        self,
        names: Iterable[str],
        *,
        ttl: timedelta = TTL,
        wait: timedelta = WAIT,
        owner: str = "",
        priority: int = 0,
        shared: bool = False,
        keep: bool = True,
    ) -> Lock:
        """Acquire all names in one step, with one fence and one release; a waiting request holds none of
        them.
        """
        terms = LockTerms(ttl, wait, owner, priority, keep)
        wanted = unique_names(names)
        return self._core.grant(of_locks(wanted, shared=shared), wanted, terms)

    def guard(self, name: str) -> Guard:
        """Return a register that only the newest holder of the lock may write. Create it before acquiring the
        lock.
        """
        check_name("lock's name", name)
        return Guard(self._core, name)

    def held(self) -> int:
        """Return the number of names that are held at present."""
        return self._census()[0]

    def stats(self) -> LockStats:
        held, waiting = self._census()
        return LockStats(held=held, waiting=waiting, resources=self.resources.all_stats())

    def list(self, *, resources: bool = True, internal: bool = True) -> tuple[Held, ...]:
        """Return the names that are held or waited for; without `resources`, only waited-for resources and
        slots are included, and without `internal`, no locks that coord takes for itself.
        """
        return tuple(
            held
            for held in self._listing.all()
            if (resources or held.kind == LOCK or held.waiters) and (internal or not held.internal)
        )

    def deadlocks(self) -> tuple[Circle, ...]:
        """Return the present deadlocks. Within about a second, one request of each gives way."""
        waiting = {waiter.id for held in self._listing.all() for waiter in held.waiters}
        return Detector(self._core.connection, self._core.keys).circles(waiting)

    def close(self) -> None:
        """Stop renewing; held locks expire after their ttl."""
        self._core.close()

    def _census(self) -> steps.Counted:
        return self._core.call(steps.Census())
