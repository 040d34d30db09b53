"""Whoever has waited for a second looks whether that can end at all; if not, one of those concerned gives way.

The graph is read in one step (lua/lock/graph.lua), judged here (wait_graph.py), and the verdict stands only where one more step
finds every link as it was read (lua/lock/victim.lua): so each deadlock has one victim, however many look at once. The victim's
request is withdrawn; what it holds stays its own until its code gives it back, which a `with` does on the way out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from coordination.backend.keys import LockKeys
from coordination.backend.scripts import Scripts
from coordination.errors import DeadlockError
from coordination.locks.wait_graph import Deadlock, Holding, Name, Request, WaitGraph, Want
from coordination.locks.wording import holder_words

MOST_REQUESTS = 500
"""That one look reads: nearest first, and what lies beyond counts as able to go on."""
VERDICT = "deadlock "


class Circle(BaseModel):
    """A deadlock, as it stands."""

    model_config = ConfigDict(frozen=True)

    waits: tuple[tuple[str, str], ...]
    """Who waits, and for what; the last one for what the first one keeps."""
    words: str


class Detector:
    def __init__(self, step: Scripts, keys: LockKeys) -> None:
        self._step = step
        self._keys = keys

    def look(self, request: str) -> None:
        """Resolves the deadlock in which the request waits, if it does. Raises DeadlockError where it is the one to give way.

        Another one finds the verdict in its wake list: `verdict` reads it.
        """
        answer = self._step("lock/graph", [self._keys.head], [request, MOST_REQUESTS])
        if answer is None:
            return
        read = json.loads(answer)
        found = graph_of(read).deadlock(request)
        if found is None:
            return
        told = VERDICT + json.dumps(_in_words(found, read))
        links = [part for link in found.proof for part in link]
        if self._step("lock/victim", [self._keys.head], [found.victim, told, *links]) and found.victim == request:
            raise verdict(told) or AssertionError

    def circles(self, waiting: Iterable[str]) -> tuple[Circle, ...]:
        """Among these requests, each once; nobody is made to give way."""
        found: dict[frozenset[str], Circle] = {}
        for request in sorted(waiting):
            answer = self._step("lock/graph", [self._keys.head], [request, MOST_REQUESTS])
            read = json.loads(answer) if answer else {"requests": [], "names": []}
            if deadlock := graph_of(read).deadlock(request):
                told = verdict(VERDICT + json.dumps(_in_words(deadlock, read)))
                waiters = frozenset(link.waiter for link in deadlock.circle)
                if told is not None:
                    found.setdefault(waiters, Circle(waits=told.cycle, words=told.message))
        return tuple(found.values())


def verdict(woken_by: str) -> DeadlockError | None:
    """What woke a request, if that is no fence but the end of its wait."""
    if not woken_by.startswith(VERDICT):
        return None
    circle = [(str(who), str(held), str(name)) for who, held, name in json.loads(woken_by.removeprefix(VERDICT))]
    sentences = "; ".join(f"{who} {held} and waits for {name}" for who, held, name in circle)
    whom = "they wait for each other" if len(circle) > 1 else "it waits for itself"
    return DeadlockError(
        f"{whom}: {sentences}",
        "this one gives way: release what it holds, and begin anew; to acquire everything at once avoids it",
        cycle=tuple((who, name) for who, _, name in circle),
    )


def graph_of(read: Mapping[str, Any]) -> WaitGraph:
    """From what graph.lua has read. Lua knows no difference between an empty list and an empty mapping."""
    return WaitGraph(map(_request, read["requests"]), {name["name"]: _name(name) for name in read["names"]})


def _request(read: Mapping[str, Any]) -> Request:
    return Request(
        id=read["id"],
        party=read["party"],
        waiting=read["state"] == "waiting",
        wants=tuple(Want(want["name"], want["mode"], want["amount"], want["capacity"]) for want in read["wants"]),
        rank=int(read["rank"]),
        priority=int(read["priority"] or 0),
        may_give_way=read.get("kind") != "todo",
    )


def _name(read: Mapping[str, Any]) -> Name:
    alone = [Holding(read["alone"])] if read.get("alone") else []
    shares = [Holding(request, amount, alone=False) for amount, request in read["shares"]]
    return Name(holdings=(*alone, *shares), queue=tuple(read["queue"]))


def _in_words(found: Deadlock, read: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """For each of the circle: who, what it keeps from the one before, for what it waits."""
    requests = {request["id"]: request for request in read["requests"]}
    words = []
    for before, link in zip((found.circle[-1], *found.circle[:-1]), found.circle, strict=True):
        keeps = "holds" if requests[before.blocker]["state"] == "held" else "is next for"
        words.append((holder_words(requests[link.waiter]), f"{keeps} {before.name}", link.name))
    return words
