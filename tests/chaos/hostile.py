"""A hostile writer in Redis: somebody who may write any key of the namespace, and writes what is no record of
coord's.

It writes damage, not orders: who may write in Redis can order todos until orders are signed, and that is no
fault of a reader.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from coordination.backend.client import Profile, connect
from coordination.errors import CoordinationError
from tests.chaos import hostile_todos
from tests.chaos.figures import Figures
from tests.chaos.record import lines_of
from tests.chaos.workers import NO_POISON, Watch, WorkerGroup, begin, dag, ledger_of, straight
from tests.testbed import Testbed, temporary_testbed

FAULT = "hostile writer, hostile todos"
DOES = (
    "rubbish into random keys, 20 times a second, while runs of 60 todos go on: workers live, "
    "only what was ordered runs; then todos in a sandbox harm their git directories and folders: "
    "nothing outside changes, and the next todo works"
)
WRITER_SHARE = 0.3
"""Part of the time that the writer gets."""

RUBBISH = (
    b"", b"\xff\xfe\x00", b"not json", b"{", b"null", b"[]", b"{}", b"[1, 2]", b"-1", b"1e400", b"nan",
    b"99999999999999999999999999", b"a b c d e f g", b"[" * 20_000, b"\x1b[31m\r\n", b'{"id": 5, "repos": 7}',
)  # fmt: skip


class Hostile:
    """One write at a time, at a key of `namespace` that is there, or at a new one beside it."""

    def __init__(self, redis: Redis, chance: random.Random, namespace: str = "coord") -> None:
        """`redis` must not decode."""
        self._redis = redis
        self._chance = chance
        self._namespace = namespace

    def write(self) -> str:
        """Damage a random key. Return what was written where; empty if there is no key."""
        keys = sorted(self._redis.scan_iter(match=f"{self._namespace}[:.]*", count=1000))
        if not keys:
            return ""
        key = self._chance.choice(keys)
        kind = self._redis.type(key).decode()
        operation = self._chance.choice(self._operations(kind))
        try:
            operation(key)
        except ResponseError as error:  # it changed its type in between
            return f"{key!r}: {error}"
        return f"{operation.__name__} {key!r} ({kind})"

    def _operations(self, kind: str) -> Sequence[Callable[[bytes], Any]]:
        per_type = {
            "hash": (self.field, self.field, self.field, self.new_field, self.no_field),
            "string": (self.text, self.text, self.cut),
            "zset": (self.member, self.member, self.score, self.no_member),
            "set": (self.add,),
            "list": (self.push,),
            "stream": (self.entry,),
        }
        return (*per_type.get(kind, ()), self.another_type)

    def _rubbish(self) -> bytes:
        return self._chance.choice(RUBBISH)

    def field(self, key: bytes) -> None:
        self._redis.hset(key, self._chance.choice(sorted(self._redis.hkeys(key)) or [b"x"]), self._rubbish())

    def new_field(self, key: bytes) -> None:
        self._redis.hset(key, self._rubbish(), self._rubbish())

    def no_field(self, key: bytes) -> None:
        self._redis.hdel(key, self._chance.choice(sorted(self._redis.hkeys(key)) or [b"x"]))

    def text(self, key: bytes) -> None:
        self._redis.set(key, self._rubbish(), keepttl=True)

    def cut(self, key: bytes) -> None:
        self._redis.set(key, (self._redis.get(key) or b"")[: self._chance.randrange(20)], keepttl=True)

    def member(self, key: bytes) -> None:
        self._redis.zadd(key, {self._rubbish(): self._chance.choice((-1, 0, 1, 2**53, float("inf")))})

    def score(self, key: bytes) -> None:
        members = self._redis.zrange(key, 0, -1)
        self._redis.zadd(key, {self._chance.choice(members): float("-inf")} if members else {b"x": 0})

    def no_member(self, key: bytes) -> None:
        self._redis.zrem(key, self._chance.choice(self._redis.zrange(key, 0, -1) or [b"x"]))

    def add(self, key: bytes) -> None:
        self._redis.sadd(key, self._rubbish())

    def push(self, key: bytes) -> None:
        self._redis.lpush(key, self._rubbish())

    def entry(self, key: bytes) -> None:
        self._redis.xadd(key, {self._rubbish(): self._rubbish()})

    def another_type(self, key: bytes) -> None:
        other = self._chance.choice((self._redis.set, self._redis.rpush))
        self._redis.delete(key)
        other(key, self._rubbish())


@dataclass(frozen=True, kw_only=True)
class Writes:
    seconds: float
    todos: int = 60
    repos: int = 12
    workers: int = 3
    pause_s: float = 0.05
    seed: int = 0
    patience_s: float = 120


def main(minutes: float) -> Figures:
    seconds = minutes * 60 * WRITER_SHARE
    with temporary_testbed() as testbed:
        written = write_rubbish(testbed, Writes(seconds=seconds, seed=random.randrange(10**6)))
    harmed = hostile_todos.main(minutes * (1 - WRITER_SHARE))
    return Figures(
        measured=f"{written.measured}; {harmed.measured}",
        wrong=[*written.wrong, *harmed.wrong],
        late=[*written.late, *harmed.late],
    )


def write_rubbish(testbed: Testbed, how: Writes) -> Figures:
    """A run begins where none is live; afterwards all data are gone, and a last one must succeed with the
    same workers.
    """
    chance = random.Random(how.seed)
    testbed.settings = {**NO_POISON, "lease_ttl": "5s", "heartbeat": "500ms"}
    todos = dag(how.todos, how.repos, chance, env={"LASTS": "0.1"})
    testbed.write(todos)
    url = testbed.server.start()
    group = WorkerGroup(testbed, [url] * how.workers)
    group.ready()
    watch, runs, wrong, writes = Watch(testbed, straight(testbed)), [], [], 0
    end = time.monotonic() + how.seconds
    with connect(url, Profile.COMMAND, decode=False) as client:
        hostile = Hostile(client, chance)
        while time.monotonic() < end:
            # The output of a command is not judged here.
            with suppress(CoordinationError, RedisError, ValueError):
                if not runs or watch.over(runs[-1]):
                    runs.append(begin(testbed, url))
            writes += bool(hostile.write())
            time.sleep(how.pause_s)
            wrong += group.restart_ended()
        client.flushall()
    group.ready()
    wrong += watch.until_over(
        [begin(testbed, url)], how.patience_s, lambda: wrong.extend(group.restart_ended())
    )
    strangers = {line.todo for line in lines_of(ledger_of(testbed))} - {todo["id"] for todo in todos}
    wrong += [f"{todo} ran, and nobody had ordered it" for todo in strangers]
    return Figures(
        measured=f"{writes} writes, {len(runs)} runs begun meanwhile, seed {how.seed}", wrong=wrong
    )
