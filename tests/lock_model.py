"""A model of locks that uses no Redis, and a table that executes the same requests by steps on a real one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis

from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import Step
from coordination.backend.steps.lock import Answer, Release, Sweep, SweepOwners
from tests.lock_requests import ask

Place = tuple[float, str]
"""Rank and id: the order of a queue."""


@dataclass
class Request:
    id: str
    wants: Mapping[str, str]
    """name → mode: `x`, `s`, or `amount/capacity`"""
    priority: int
    rank: float | None = None
    fence: int | None = None
    state: str = "new"
    """new, waiting, held or over"""
    alive: bool = True
    """One that is not neither renews nor releases nor looks."""

    def amount(self, name: str) -> int:
        return int(self.wants[name].partition("/")[0])

    def shares(self, name: str, other: Request) -> bool:
        return self.wants[name] == other.wants[name] == "s"


@dataclass
class Model:
    capacities: Mapping[str, int]
    requests: dict[str, Request] = field(default_factory=dict)
    fences: list[int] = field(default_factory=list)

    def of(self, state: str, *, alive: bool = False) -> list[Request]:
        return [r for r in self.requests.values() if r.state == state and (r.alive or not alive)]

    def holders(self, name: str) -> list[Request]:
        return [r for r in self.of("held") if name in r.wants]

    def used(self, name: str) -> int:
        return sum(r.amount(name) for r in self.holders(name))

    def has_room(self, request: Request, name: str) -> bool:
        if name in self.capacities:
            return self.used(name) + request.amount(name) <= self.capacities[name]
        return all(request.shares(name, holder) for holder in self.holders(name))

    def ahead(self, request: Request, name: str, queue: Iterable[Place]) -> list[Request]:
        """The waiters before the request in the queue of the name that cannot share with it."""
        assert request.rank is not None
        mine = (request.rank, request.id)
        first = [self.requests[id_] for rank, id_ in queue if (rank, id_) < mine]
        return [r for r in first if r.state == "waiting" and not r.shares(name, request)]

    def in_the_way(self, request: Request, queues: Mapping[str, Iterable[Place]]) -> set[str]:
        """The names that the request cannot have now."""
        return {
            name
            for name in request.wants
            if not self.has_room(request, name) or self.ahead(request, name, queues[name])
        }

    def grant(self, request: Request, fence: int) -> None:
        assert all(fence > old for old in self.fences), "a fence that does not grow"
        self.fences.append(fence)
        request.state, request.fence = "held", fence

    def check_exclusion(self, names: Iterable[str]) -> None:
        for name in names:
            holders = self.holders(name)
            if name in self.capacities:
                assert self.used(name) <= self.capacities[name], f"{name}: more than there is"
            elif len(holders) > 1:
                assert all(r.wants[name] == "s" for r in holders), f"{name}: an exclusive holder is not alone"


HOUR_MS = 3_600_000
NAMESPACE = "test"
R = TypeVar("R")
GONE = (None, None)


@dataclass(frozen=True)
class Seen:
    """The content of Redis."""

    records: dict[str, tuple[str | None, str | None]]
    """request → state and fence"""
    exclusive: dict[str, str | None]
    shares: dict[str, set[str]]
    queues: dict[str, list[Place]]


def party_of(request: Request) -> str:
    return f"party of {request.id}"


class Table:
    def __init__(self, client: redis.Redis, capacities: Mapping[str, int]) -> None:
        self.redis = client
        self.keys = Keys(NAMESPACE).locks
        self.capacities = capacities
        self._caller = StepCaller(client)
        self._seen: Seen | None = None
        self.empty()

    def empty(self) -> None:
        """As a server that has lost its data."""
        self._seen = None
        self.redis.flushall()
        declared = {name: n for name, n in self.capacities.items() if name.startswith("resource:")}
        self.redis.hset(self.keys.capacities, mapping=declared)

    def call(self, step: Step[R]) -> R:
        self._seen = None
        return self._caller(step, [self.keys.head])

    def ask(self, request: Request, place_ms: int) -> Answer:
        self._seen = None
        return ask(
            self.redis,
            request.id,
            "\n".join(f"{mode} {name}" for name, mode in request.wants.items()),
            namespace=NAMESPACE,
            priority=request.priority,
            place_ms=place_ms,
            rank="" if request.rank is None else f"{request.rank:.0f}",
            party=party_of(request),
        )

    def release(self, request: Request) -> bool:
        return self.call(Release(request=request.id, party=party_of(request)))

    def expire(self, request: Request, *, held: bool) -> None:
        """As Redis does it when a ttl runs out: without a word to anybody."""
        self._seen = None
        self.redis.delete(self.keys.request(request.id))
        for name, mode in request.wants.items() if held else ():
            if mode == "x":
                self.redis.delete(self.keys.holder(name))
            else:
                self.redis.zadd(self.keys.shares(name), {self.share(request, name): self.now_ms()}, xx=True)

    def share(self, request: Request, name: str) -> str:
        return f"{request.amount(name) if name in self.capacities else 1} {request.id}"

    def sweep(self) -> None:
        """Remove the entries of dead processes, as locks/sweeper.py does."""
        self.call(Sweep(names=self.redis.smembers(self.keys.names)))
        self.call(SweepOwners(parties=self.redis.smembers(self.keys.parties)))

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds * 1000 + micros // 1000)

    def see(self, ids: Sequence[str], names: Sequence[str]) -> Seen:
        """Read once between two steps."""
        if self._seen is None:
            self._seen = self._read(ids, names)
        return self._seen

    def _read(self, ids: Sequence[str], names: Sequence[str]) -> Seen:
        now_ms = self.now_ms()
        with self.redis.pipeline() as pipe:
            for id_ in ids:
                pipe.hmget(self.keys.request(id_), "state", "fence")
            for name in names:
                pipe.get(self.keys.holder(name))
                pipe.zrangebyscore(self.keys.shares(name), f"({now_ms}", "+inf")
                pipe.zrange(self.keys.queue(name), 0, -1, withscores=True)
            answers: Iterator[Any] = iter(pipe.execute())
        records = {id_: tuple(next(answers)) for id_ in ids}
        per_name = {name: (next(answers), next(answers), next(answers)) for name in names}
        return Seen(
            records,
            {name: holder for name, (holder, _, _) in per_name.items()},
            {name: set(shares) for name, (_, shares, _) in per_name.items()},
            {name: [(rank, id_) for id_, rank in queue] for name, (_, _, queue) in per_name.items()},
        )
