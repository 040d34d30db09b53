"""What locks and resources have in common: a request is granted, kept by renewal, and given back."""

from __future__ import annotations

from typing import Any

from coordination.errors import UsageError
from coordination.locks.clock import now_s
from coordination.locks.deadlock import Detector
from coordination.locks.lock import Lock
from coordination.locks.owner import Owner, here
from coordination.locks.renewal import Renewal
from coordination.locks.waiting import PATIENCE_S, Waiting
from coordination.locks.wants import LockTerms
from coordination.wire.connection import ANSWER_S
from coordination.wire.keys import Keys
from coordination.wire.line import StepConnection, Word


class Granting:
    def __init__(self, line: StepConnection, namespace: str, owner: Owner | None) -> None:
        self.line = line
        self.keys = Keys(namespace).locks
        self._owner = owner
        self._waiting = Waiting(line, self.keys, Detector(line, self.keys))
        self._renewal = Renewal(self.renew)
        self._closed = False

    def grant(self, wants: tuple[str, ...], names: tuple[str, ...], terms: LockTerms) -> Lock:
        if self._closed:
            raise UsageError("this manager of locks is closed", "make another one")
        granted = self._waiting.ask(wants, terms, self._owner or here(terms.owner))
        lock = Lock(self, granted, names, terms.ttl)
        if terms.keep:
            self._renewal.add(lock)
        return lock

    def renew(self, lock: Lock, *, patience_s: float = ANSWER_S) -> bool:
        since_s = now_s()
        if not self.step("lock/renew", lock.token, patience_s=patience_s):
            return False
        lock.deadline_s = since_s + lock.ttl.total_seconds()
        return True

    def release(self, lock: Lock) -> bool:
        self._renewal.remove(lock)
        return bool(self.step("lock/release", lock.token, lock.party, patience_s=PATIENCE_S))

    def step(self, name: str, *args: Word, patience_s: float = ANSWER_S) -> Any:
        return self.line(name, [self.keys.head], args, patience_s=patience_s)

    def close(self) -> None:
        self._closed = True
        self._renewal.stop()
        self.line.close()
