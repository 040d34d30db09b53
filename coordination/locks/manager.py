"""`LockManager.acquire` grants a `Lock`, or raises LockTimeout with who holds it."""

from __future__ import annotations

import os
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from redis import Redis

from coordination.errors import LockLost, LockTimeout, UsageError
from coordination.wire.keys import Keys
from coordination.wire.scripts import Scripts

POLL_S = 0.05


@dataclass(frozen=True)
class Lock:
    """A granted lock. `fence` is higher than that of every earlier holder of this name."""

    name: str
    fence: int
    token: str
    ttl: timedelta
    _manager: LockManager

    def renew(self) -> bool:
        """False where the lock is lost: stop what it protects."""
        return self._manager.renew(self)

    def release(self) -> None:
        """Raises LockLost where it was somebody else's by now."""
        self._manager.release(self)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class LockManager:
    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._keys = Keys(namespace).locks
        self._step = Scripts(redis)

    def acquire(
        self,
        name: str,
        *,
        ttl: timedelta = timedelta(seconds=10),
        wait: timedelta = timedelta(seconds=5),
        owner: str = "",
    ) -> Lock:
        """`wait` 0 is one try. `owner` is a label for people; host and pid are kept beside it."""
        if ttl < timedelta(milliseconds=1) or not name:
            raise UsageError("a lock needs a name and a ttl of at least 1 ms", "give both")
        token = uuid.uuid4().hex
        deadline = time.monotonic() + wait.total_seconds()
        while True:
            fence = self._try(name, token, ttl, owner)
            if fence is not None:
                return Lock(name, fence, token, ttl, self)
            if time.monotonic() >= deadline:
                raise LockTimeout(f"lock {name} is held by {self._holder(name)}", "wait for it, or try again later")
            time.sleep(POLL_S)

    def renew(self, lock: Lock) -> bool:
        return bool(self._step("lock/renew", [self._keys.head], [lock.token]))

    def release(self, lock: Lock) -> None:
        if not self._step("lock/release", [self._keys.head], [lock.token]):
            raise LockLost(f"lock {lock.name} expired before it was released", "give it a longer ttl, or renew it")

    def held(self) -> int:
        """How many are held at present."""
        names = self._redis.smembers(self._keys.names)
        return int(self._redis.exists(*map(self._keys.holder, names))) if names else 0

    def _try(self, name: str, token: str, ttl: timedelta, owner: str) -> int | None:
        who = ["host", socket.gethostname(), "pid", str(os.getpid()), "label", owner]
        wants, place_ms, no_rank = f"x lock:{name}", 0, ""
        word, *rest = self._step(
            "lock/acquire", [self._keys.head], [token, wants, _ms(ttl), 0, place_ms, no_rank, token, *who]
        )
        return int(rest[0]) if word == "held" else None

    def _holder(self, name: str) -> str:
        holder = self._redis.get(self._keys.holder(f"lock:{name}"))
        info = self._redis.hgetall(self._keys.request(holder)) if holder else {}
        return "{label} (process {pid} on {host})".format_map({"label": "", "pid": "?", "host": "?", **info})


def _ms(duration: timedelta) -> int:
    return int(duration / timedelta(milliseconds=1))
