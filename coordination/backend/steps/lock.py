"""Declares the steps in lua/lock."""

# No `from __future__ import annotations`: Step reads the types of the fields.
import json
from collections.abc import Collection
from typing import Any, NamedTuple, TypedDict

from coordination.backend.steps.step import (
    OOM,
    NumberStep,
    Step,
    TruthStep,
    VoidStep,
    checked,
    text,
)


class Held(NamedTuple):
    """The request holds all its names."""

    fence: int
    epoch: int


class Queued(NamedTuple):
    """The request waits in the queues of names that are taken."""

    rank: int
    ask_again_ms: int
    """Time after which to ask again; -1: when notified."""
    blocking: tuple[str, ...]
    """The names that are taken."""


class Taken(NamedTuple):
    """Names are taken, and the request does not wait."""

    blocking: tuple[str, ...]


class Impossible(NamedTuple):
    """The request exceeds the capacity of a resource."""

    name: str
    capacity: int
    """0: there is no such resource."""


Answer = Held | Queued | Taken | Impossible
"""Reply of `Acquire`."""


class Acquire(Step[Answer], name="lock/acquire"):
    request: str
    wants: str
    """One want per line, as in lua/lock/_lock.lua."""
    ttl_ms: int
    priority: int
    place_ms: int
    """Time that its place in the queue lasts; 0: it does not wait."""
    rank: int | str
    """The rank of an earlier reply; empty: none yet."""
    party: str
    description: Collection[tuple[str, str]]
    """Fields of the owner and their values."""

    def read(self, reply: Any) -> Answer:
        head, *names = text(reply).split("\n")
        word, *numbers = head.split(" ")
        if word == "held":
            fence, epoch = numbers
            return Held(int(fence), int(epoch))
        if word == "waiting":
            rank, ask_again_ms = numbers
            return Queued(int(rank), int(ask_again_ms), tuple(names))
        if word == "impossible":
            return Impossible(name=names[0], capacity=int(numbers[0]))
        return Taken(tuple(names))


def granted_while_waiting(word: str) -> tuple[Held, int]:
    """Parse the word with which a waiting request is notified of its grant (`notify` in lua/lock/_queue.lua):
    the grant, and the ms for which it lasts until the waiter asks again.
    """
    _, fence, epoch, kept_ms = word.split(" ")
    return Held(int(fence), int(epoch)), int(kept_ms)


class Release(TruthStep, name="lock/release", flags=OOM):
    request: str
    party: str


class Renew(TruthStep, name="lock/renew", flags=OOM):
    request: str


class GiveBack(NumberStep, name="lock/give_back", flags=OOM):
    requests: Collection[str]


class Declare(VoidStep, name="lock/declare"):
    capacities: Collection[tuple[str, int]]
    """Typed name and capacity of each resource; 0 removes it."""


class ResourceUse(NamedTuple):
    capacity: int
    used: int
    used_ms: int
    """Sum of amount times ms."""
    over_ms: int
    waiting: int
    granted: int
    waited_ms: int
    longest_ms: int


class Use(Step[list[ResourceUse]], name="lock/use"):
    names: Collection[str]

    def read(self, reply: Any) -> list[ResourceUse]:
        return [ResourceUse(*row) for row in checked(list, reply)]


class ListNames(Step[list[dict[str, Any]]], name="lock/list"):
    """Returns the fields of a `Held` (locks/listing.py) for each name."""

    names: Collection[str]

    def read(self, reply: Any) -> list[dict[str, Any]]:
        lists = ("holders", "waiters")
        return [{**name, **{key: name[key] or [] for key in lists}} for name in json.loads(text(reply))]


class Counted(NamedTuple):
    held: int
    """Number of held names."""
    waiting: int
    """Number of waiting requests."""


class Census(Step[Counted], name="lock/census"):
    def read(self, reply: Any) -> Counted:
        return Counted(*reply)


class BlockingHolder(NamedTuple):
    name: str
    host: str
    pid: str
    label: str
    expires_ms: int
    """ms until it expires; -1: never."""


class Holders(Step[list[BlockingHolder]], name="lock/holders"):
    wants: str

    def read(self, reply: Any) -> list[BlockingHolder]:
        return [BlockingHolder(*row) for row in checked(list, reply)]


class GraphWant(TypedDict):
    name: str
    mode: str
    amount: int
    capacity: int


class GraphRequest(TypedDict):
    id: str
    state: str
    kind: str
    party: str
    rank: str
    priority: str
    host: str
    pid: str
    started: str
    thread: str
    label: str
    wants: list[GraphWant]


class GraphName(TypedDict):
    name: str
    alone: str | None
    shares: list[tuple[int, str]]
    queue: list[str]


class GraphReply(TypedDict):
    """The wait-for graph of a request. An empty list may be an empty mapping."""

    requests: list[GraphRequest]
    names: list[GraphName]


class Graph(Step[GraphReply | None], name="lock/graph"):
    request: str
    limit: int

    def read(self, reply: Any) -> GraphReply | None:
        graph: GraphReply | None = None if reply is None else json.loads(text(reply))
        return graph


class Victim(TruthStep, name="lock/victim", flags=OOM):
    request: str
    verdict: str
    links: Collection[tuple[str, str, str]]
    """Waiting request, name, blocking request."""


class Guard(VoidStep, name="lock/guard"):
    lock: str


class RefusedWrite(NamedTuple):
    why: str
    """`older` or `unknown`."""
    newest: str


class Write(Step[RefusedWrite | None], name="lock/write"):
    lock: str
    fence: int
    value: Collection[str]
    """The value, or nothing where the fence is only checked."""

    def read(self, reply: Any) -> RefusedWrite | None:
        return None if reply == 1 else RefusedWrite(*reply)


class Break(NumberStep, name="lock/break", flags=OOM):
    what: str
    actor: str
    requests: Collection[str]


class Swept(NamedTuple):
    places: int
    shares: int
    granted: int
    idle: int


class Sweep(Step[Swept], name="lock/sweep", flags=OOM):
    names: Collection[str]

    def read(self, reply: Any) -> Swept:
        return Swept(*reply)


class SweepOwners(NumberStep, name="lock/sweep_owners", flags=OOM):
    parties: Collection[str]
