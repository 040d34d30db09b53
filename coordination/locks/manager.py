"""Locks by name: exclusive or shared, one or several at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from redis import Redis

from coordination.backend.step_connection import StepConnection
from coordination.errors import NotFound
from coordination.locks.core import Granting
from coordination.locks.deadlock import Circle, Detector
from coordination.locks.force_release import Breaking, Released
from coordination.locks.guard import Guard
from coordination.locks.listing import LOCK, Held, Listing
from coordination.locks.lock import Lock
from coordination.locks.owner import Owner
from coordination.locks.resources import Resources, ResourceStats
from coordination.locks.wants import TTL, WAIT, LockTerms, check_name, each_once, of_locks


@dataclass(frozen=True, kw_only=True)
class LockStats:
    """Of the namespace, at this moment."""

    held: int
    """Names: of locks, resources and seats."""
    waiting: int
    """Requests."""
    resources: Mapping[str, ResourceStats]


class LockManager:
    """The locks of a namespace. `owner` stands for every caller; without one, each thread is an owner of its own.

    Threads that share an owner count as one: where one of them waits for what another one holds, that is a deadlock.
    """

    def __init__(self, redis: Redis, namespace: str, *, owner: Owner | None = None) -> None:
        self._granting = Granting(StepConnection(redis), namespace, owner)
        self.resources = Resources(self._granting)
        self._listing = Listing(self._granting.line, self._granting.keys)
        self._breaking = Breaking(self._granting.line, self._granting.keys)

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
        """`wait` 0 is one try. `owner` is a label for people; host, process and thread are kept beside it.

        `keep`: a thread renews it at a third of its ttl until it is released. Without, whoever hangs loses it, which may be
        what is wanted. Raises LockTimeout, DeadlockError, UsageError, Unreachable.
        """
        return self.acquire_many((name,), ttl=ttl, wait=wait, owner=owner, priority=priority, shared=shared, keep=keep)

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
        """All of them in one step, or none: whoever waits for the rest holds nothing of it. One fence, one release."""
        terms = LockTerms(ttl, wait, owner, priority, keep)
        wanted = each_once(names)
        return self._granting.grant(of_locks(wanted, shared=shared), wanted, terms)

    def guard(self, name: str) -> Guard:
        """What only the newest holder of the lock may write. To be made before the lock is acquired."""
        check_name("lock's name", name)
        return Guard(self._granting, name)

    def held(self) -> int:
        """How many names are held at present."""
        return self._census()[0]

    def stats(self) -> LockStats:
        held, waiting = self._census()
        return LockStats(held=held, waiting=waiting, resources=self.resources.all_stats())

    def list(self, *, resources: bool = True) -> tuple[Held, ...]:
        """What is held or waited for, with who does; without `resources`, of resources and seats only what is waited for."""
        return tuple(held for held in self._listing.all() if resources or held.kind == LOCK or held.waiters)

    def breakable(self, name: str, *, force: bool = False) -> Held:
        """The lock (or `resource:NAME`) with its holders, if it may be taken from them. `force`: from the living, too.

        Raises NotFound where nobody holds it, Conflict for a run's todo, and for a holder that may live.
        """
        return self._breaking.find(name, force=force)

    def break_(self, held: Held, actor: str) -> None:
        """Takes what `breakable` found from its holders, whose next renewal fails, and gives it to the next in the queue.

        `actor` is noted in `broken`. Raises NotFound where they have given it back meanwhile.
        """
        self._breaking.release(held, actor)

    def held_by(self, owner: str, *, force: bool = False) -> tuple[Held, ...]:
        """What all requests with the label `owner` hold, on any machine; but for runs' todos.

        Raises NotFound where that is nothing; without `force` Conflict for a holder that may live.
        """
        return self._breaking.of_owner(owner, force=force)

    def release_all(self, owner: str, actor: str = "", *, force: bool = True) -> tuple[Held, ...]:
        """Takes back whatever requests with the label `owner` hold; their next renewal fails. Returns what that was.

        `actor` is noted in `broken`. Without `force` raises Conflict for a holder that may live.
        """
        try:
            found = self.held_by(owner, force=force)
        except NotFound:
            return ()
        return self._breaking.release_all(found, actor or owner)

    def deadlocks(self) -> tuple[Circle, ...]:
        """Those who wait for each other at this moment. Within about a second one of them gives way by itself."""
        waiting = {waiter.id for held in self._listing.all() for waiter in held.waiters}
        return Detector(self._granting.line, self._granting.keys).circles(waiting)

    def broken(self, limit: int = 100) -> tuple[Released, ...]:
        """What was taken away with `break_`, latest first."""
        return self._breaking.released(limit)

    def close(self) -> None:
        """What is held is left to its ttl."""
        self._granting.close()

    def _census(self) -> tuple[int, int]:
        held, waiting = self._granting.step("lock/census")
        return held, waiting
