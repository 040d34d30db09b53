"""Locks by name: exclusive or shared, one or several at once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from redis import Redis

from coordination.locks.clock import now_s
from coordination.locks.deadlock import Detector
from coordination.locks.lock import Lock
from coordination.locks.owner import Owner, here
from coordination.locks.renewal import Renewal
from coordination.locks.waiting import Waiting
from coordination.locks.wants import TTL, WAIT, Terms, locks
from coordination.wire.connection import ANSWER_S
from coordination.wire.keys import Keys
from coordination.wire.line import Line


class Granting:
    """What locks and resources have in common: a request is granted, kept by renewal, and given back."""

    def __init__(self, line: Line, namespace: str, owner: Owner | None) -> None:
        self.line = line
        self.keys = Keys(namespace).locks
        self._owner = owner
        self._waiting = Waiting(line, self.keys, Detector(line, self.keys))
        self._renewal = Renewal(self.renew)

    def grant(self, wants: tuple[str, ...], names: tuple[str, ...], terms: Terms, *, keep: bool) -> Lock:
        granted = self._waiting.ask(wants, terms, self._owner or here(terms.owner))
        lock = Lock(
            self, granted.token, names, terms.ttl, fence=granted.fence, epoch=granted.epoch, since_s=granted.since_s
        )
        if keep:
            self._renewal.add(lock)
        return lock

    def renew(self, lock: Lock, *, patience_s: float = ANSWER_S) -> bool:
        since_s = now_s()
        if not self.line("lock/renew", [self.keys.head], [lock.token], patience_s=patience_s):
            return False
        lock.deadline_s = since_s + lock.ttl.total_seconds()
        return True

    def release(self, lock: Lock) -> bool:
        self._renewal.remove(lock)
        return bool(self.line("lock/release", [self.keys.head], [lock.token]))

    def close(self) -> None:
        self._renewal.stop()
        self.line.close()


class LockManager:
    """The locks of a namespace. `owner` stands for every caller; without one, each thread is an owner of its own."""

    def __init__(self, redis: Redis, namespace: str, *, owner: Owner | None = None) -> None:
        self._granting = Granting(Line(redis), namespace, owner)

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
        terms = Terms(ttl, wait, owner, priority)
        names = tuple(dict.fromkeys(names))
        return self._granting.grant(locks(names, shared=shared), names, terms, keep=keep)

    def held(self) -> int:
        """How many are held at present."""
        granting = self._granting
        names = granting.line.send("SMEMBERS", granting.keys.names)
        return int(granting.line.send("EXISTS", *map(granting.keys.holder, names))) if names else 0

    def close(self) -> None:
        """What is held is left to its ttl."""
        self._granting.close()
