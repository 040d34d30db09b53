"""Who waits for whom, and whether that can end: the wait-for graph. Pure: no I/O, no clock.

A party (one thread of one process) holds names and waits for others. With shared holders and capacities a circle alone is no
deadlock, for one of several holders may leave enough when it goes. So the graph is *reduced* (Holt, Some Deadlock Properties of
Computer Systems, 1972): whoever could have what it waits for, if those taken out before had given back everything, is taken
out; who remains waits for ever.

Whoever waits also keeps those behind it in the queues waiting, with nothing in its hands. Should somebody in a circle give way
who is part of it in this way alone, the others may stay stuck: so it is first of all counted who does after each of them.

Whoever has waited for a second looks whether that can end at all; if not, one of those concerned gives way.

The graph is read in one step (lua/lock/graph.lua), judged here (wait_graph.py), and the verdict stands only where one more step
finds every link as it was read (lua/lock/victim.lua): so each deadlock has one victim, however many look at once. The victim's
request is withdrawn; what it holds stays its own until its code gives it back, which a `with` does on the way out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from coordination.backend.keys import LockKeys
from coordination.backend.step_connection import StepCaller
from coordination.errors import DeadlockError
from coordination.locks.owner import holder_words

ALONE, SHARED = "x", "s"


class Want(NamedTuple):
    name: str
    mode: str = ALONE
    """ALONE, SHARED, or anything else for an amount of a capacity."""
    amount: int = 1
    capacity: int = 0

    @property
    def counts(self) -> bool:
        """Whether it is an amount: then several holders may be in its way only together."""
        return self.mode not in (ALONE, SHARED)

    def excluders(self, holdings: Iterable[Holding]) -> list[Holding]:
        """Those of the holdings by which it is refused; none where they leave room."""
        if self.mode == ALONE:
            return list(holdings)
        found = [holding for holding in holdings if holding.alone != self.counts]
        return [] if self.counts and self.amount <= self.capacity - sum(h.amount for h in found) else found


class Holding(NamedTuple):
    request: str
    amount: int = 1
    alone: bool = True


@dataclass(frozen=True, kw_only=True)
class Name:
    """A name as it stands: who holds it, and who waits for it, first come first."""

    holdings: tuple[Holding, ...] = ()
    queue: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    id: str
    party: str
    waiting: bool
    wants: tuple[Want, ...]
    rank: int = 0
    """Within a priority: later is higher."""
    priority: int = 0
    may_give_way: bool = True
    """Not a run's todo: it asks for everything at once, and holds nothing while it waits."""

    def want(self, name: str) -> Want | None:
        return next((want for want in self.wants if want.name == name), None)


class Link(NamedTuple):
    """`waiter` cannot have `name` because of `blocker`: two requests."""

    waiter: str
    name: str
    blocker: str


@dataclass(frozen=True, kw_only=True)
class Deadlock:
    circle: tuple[Link, ...]
    """Each link's blocker is of the party that waits in the next."""
    proof: tuple[Link, ...]
    """While these stand, none of the circle can go on. More than the circle where names have several holders."""
    victim: str
    """The request that is to give way."""


class WaitGraph:
    """What is not in it counts as able to go on: a part of the graph raises no false alarm."""

    def __init__(self, requests: Iterable[Request], names: Mapping[str, Name]) -> None:
        self.requests = {request.id: request for request in requests}
        self.names = names
        self._queues = {what: list(self._queue(what, name)) for what, name in names.items()}
        self._parties_ahead: dict[tuple[str, str], tuple[str, ...]] = {}
        self._waiting: dict[str, list[Request]] = {}
        self._done: dict[str, int] = {}
        for request in sorted(self.requests.values(), key=lambda request: (request.rank, request.id)):
            if request.waiting:
                self._waiting.setdefault(request.party, []).append(request)
            else:
                self._done[request.party] = self._done.get(request.party, 0) + len(request.wants)

    def _queue(self, what: str, name: Name) -> Iterator[tuple[Request, Want]]:
        for request_id in name.queue:
            request = self.requests.get(request_id)
            if request and request.waiting and (want := request.want(what)):
                yield request, want

    def deadlock(self, request: str) -> Deadlock | None:
        """The one in which the request waits, if it does. Whoever of those concerned asks gets the same answer."""
        stuck = self.stuck()
        own = self._party(request)
        if own not in stuck:
            return None
        links = {party: list(self._links(party, stuck)) for party in stuck}
        holders = [party for party in self._mutual(own, links) if self._done.get(party)]
        if not holders:
            return None
        circle = self._circle(min(holders, key=lambda party: self._order(self._waiting[party][-1])), links)
        return Deadlock(circle=circle, proof=self._proof(circle, stuck), victim=self._victim(circle))

    def stuck(self, *, but: str = "") -> set[str]:
        """The parties that can never go on, even if `but` gave way."""
        stuck = self._waiting.keys() - {but}
        before = len(stuck) + 1
        while len(stuck) < before:
            before = len(stuck)
            for party in self._waiting:  # by rank: a queue empties in one pass
                if party in stuck and self._can_go_on(party, stuck):
                    stuck.discard(party)
        return stuck

    def _can_go_on(self, party: str, stuck: set[str]) -> bool:
        """Of several requests of one party one is enough: rather no alarm than a false one."""
        return any(
            all(self._is_free(request, want, stuck) for want in request.wants) for request in self._waiting[party]
        )

    def _is_free(self, request: Request, want: Want, stuck: set[str]) -> bool:
        if self._excluders(want, stuck):
            return False
        return stuck.isdisjoint(self._ahead_parties(request, want))

    def _blockers(self, request: Request, want: Want, stuck: set[str]) -> list[str]:
        """The requests of stuck parties that keep the want from being granted; none: it would be."""
        if found := [holding.request for holding in self._excluders(want, stuck)]:
            return found
        return [other.id for other in self._ahead(request, want) if other.party in stuck]

    def _excluders(self, want: Want, stuck: set[str]) -> list[Holding]:
        holdings = self.names.get(want.name, Name()).holdings
        return want.excluders([h for h in holdings if self._party(h.request) in stuck])

    def _ahead(self, request: Request, want: Want) -> Iterator[Request]:
        """Who comes first at the name, without being able to share it."""
        for other, its in self._queues.get(want.name, ()):
            if other.id == request.id or other.rank > request.rank:
                return
            if not want.mode == its.mode == SHARED:
                yield other

    def _ahead_parties(self, request: Request, want: Want) -> tuple[str, ...]:
        """Asked for again and again."""
        key = request.id, want.name
        if key not in self._parties_ahead:
            self._parties_ahead[key] = tuple(other.party for other in self._ahead(request, want))
        return self._parties_ahead[key]

    def _party(self, request: str) -> str | None:
        found = self.requests.get(request)
        return found.party if found else None

    def _links(self, party: str, stuck: set[str]) -> Iterator[Link]:
        for request in self._waiting[party]:
            for want in request.wants:
                for blocker in self._blockers(request, want, stuck):
                    yield Link(request.id, want.name, blocker)

    def _mutual(self, party: str, links: Mapping[str, list[Link]]) -> set[str]:
        """Those whom it waits for and who wait for it, over however many others: itself too, if it is in a circle."""
        back: dict[str, set[str]] = {}
        for waiter, its in links.items():
            for link in its:
                back.setdefault(self.requests[link.blocker].party, set()).add(waiter)
        forth = {waiter: {self.requests[link.blocker].party for link in its} for waiter, its in links.items()}
        return _reached(party, forth) & _reached(party, back)

    def _circle(self, party: str, links: Mapping[str, list[Link]]) -> tuple[Link, ...]:
        """The shortest way back to the party (breadth first)."""
        came: dict[str, Link] = {}
        agenda = [party]
        for at in agenda:
            for link in sorted(links[at]):
                target = self.requests[link.blocker].party
                if target not in came:
                    came[target] = link
                    agenda.append(target)
            if party in came:
                break
        way = [came[party]]
        while (waiter := self.requests[way[-1].waiter].party) != party:
            way.append(came[waiter])
        return tuple(reversed(way))

    def _proof(self, circle: tuple[Link, ...], stuck: set[str]) -> tuple[Link, ...]:
        """The circle, and why those others cannot go on who hold a part of what it waits for."""
        chosen = {link.waiter: link for link in circle}
        agenda = [self.requests[link.waiter].party for link in circle]
        proof: list[Link] = []
        for party in agenda:
            for request in self._waiting[party]:
                links = self._reason(request, chosen.get(request.id), stuck)
                proof += links
                blockers = (self.requests[link.blocker].party for link in links)
                agenda += [other for other in dict.fromkeys(blockers) if other not in agenda]
        return tuple(proof)

    def _reason(self, request: Request, chosen: Link | None, stuck: set[str]) -> list[Link]:
        """One who is in the way is reason enough, but for an amount: that is refused because of all who hold of it."""
        for want in request.wants:
            blockers = self._blockers(request, want, stuck)
            if not blockers or (chosen and chosen.name != want.name):
                continue
            if want.counts and not self.requests[blockers[0]].waiting:
                return [Link(request.id, want.name, blocker) for blocker in blockers]
            return [chosen or Link(request.id, want.name, blockers[0])]
        return []

    def _victim(self, circle: tuple[Link, ...]) -> str:
        """Whose giving way helps most of them; of those the one that has done least, then by priority, then the youngest."""
        waiters = [self.requests[link.waiter] for link in circle]
        able = [waiter for waiter in waiters if waiter.may_give_way]
        return min(able, key=lambda w: (len(self.stuck(but=w.party)), self._order(w))).id

    def _order(self, request: Request) -> tuple[int, int, int, str]:
        return (self._done.get(request.party, 0), request.priority, -request.rank, request.id)


def _reached(start: str, ways: Mapping[str, set[str]]) -> set[str]:
    """From the start over at least one link."""
    reached: set[str] = set()
    agenda = [start]
    while agenda:
        for target in ways.get(agenda.pop(), set()) - reached:
            reached.add(target)
            agenda.append(target)
    return reached


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
    def __init__(self, step: StepCaller, keys: LockKeys) -> None:
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
