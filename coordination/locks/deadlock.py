"""Deadlock detection: the wait-for graph (pure), and the detector that reads it from Redis and resolves a
deadlock.

A party (one thread of one process) holds names and waits for others. With shared holders and capacities, a
cycle alone is no deadlock, because one of several holders may leave enough when it releases. So the graph is
*reduced* (Holt, Some Deadlock Properties of Computer Systems, 1972): a party that could get what it waits
for, if all parties removed before released everything, is removed; the remaining ones wait for ever.

A waiting party also blocks those behind it in its queues, without holding anything. If a party that is part
of a cycle only in this way gave way, the others might stay stuck; so the choice of the victim first counts
how many parties stay stuck without it.

A request that has waited for a second checks whether its wait can end; if not, one of the parties gives way.
The graph is read in one step (lua/lock/graph.lua) and judged here. The verdict takes effect only if another
step finds every link unchanged (lua/lock/victim.lua), so each deadlock has one victim, however many requests
check at once. The victim's request is withdrawn; its locks stay held until its code releases them, which a
`with` block does on exit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from coordination.backend.keys import LockKeys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import lock as steps
from coordination.backend.steps.lock import GraphReply
from coordination.errors import DeadlockError
from coordination.frozen import FrozenModel
from coordination.locks.request import holder_words

ALONE, SHARED = "x", "s"


class Want(NamedTuple):
    name: str
    mode: str = ALONE
    """ALONE, SHARED, or another value for an amount of a capacity."""
    amount: int = 1
    capacity: int = 0

    @property
    def counts(self) -> bool:
        """Return whether this is an amount, which several holders may refuse only together."""
        return self.mode not in (ALONE, SHARED)

    def refusing_holdings(self, holdings: Iterable[Holding]) -> list[Holding]:
        """Return the holdings that refuse this want; [] if they leave room."""
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
    """Current holders of a name, and the waiting requests in order."""

    holdings: tuple[Holding, ...] = ()
    queue: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LockRequest:
    id: str
    party: str
    waiting: bool
    wants: tuple[Want, ...]
    rank: int = 0
    """Position within a priority; later requests have higher ranks."""
    priority: int = 0
    may_give_way: bool = True
    """False for a run's todo, which requests everything at once and holds nothing while it waits."""

    def want(self, name: str) -> Want | None:
        return next((want for want in self.wants if want.name == name), None)


class Link(NamedTuple):
    """`waiter` cannot have `name` because of `blocker`; both are request ids."""

    waiter: str
    name: str
    blocker: str


@dataclass(frozen=True, kw_only=True)
class Deadlock:
    cycle: tuple[Link, ...]
    """Links of the cycle; each link's blocker belongs to the party that waits in the next link."""
    proof: tuple[Link, ...]
    """Links that keep the cycle stuck while they exist; more than the cycle if names have several holders."""
    victim: str
    """Id of the request that gives way."""


class WaitGraph:
    """Wait-for graph. Parties that are not in it count as able to continue, so a partial graph gives no false
    alarm.
    """

    def __init__(self, requests: Iterable[LockRequest], names: Mapping[str, Name]) -> None:
        self.requests = {request.id: request for request in requests}
        self.names = names
        self._queues = {what: list(self._queue(what, name)) for what, name in names.items()}
        self._parties_ahead: dict[tuple[str, str], tuple[str, ...]] = {}
        self._waiting: dict[str, list[LockRequest]] = {}
        self._held_by_party: dict[str, int] = {}
        for request in sorted(self.requests.values(), key=lambda request: (request.rank, request.id)):
            if request.waiting:
                self._waiting.setdefault(request.party, []).append(request)
            else:
                self._held_by_party[request.party] = self._held_by_party.get(request.party, 0) + len(
                    request.wants
                )

    def _queue(self, what: str, name: Name) -> Iterator[tuple[LockRequest, Want]]:
        for request_id in name.queue:
            request = self.requests.get(request_id)
            if request and request.waiting and (want := request.want(what)):
                yield request, want

    def deadlock(self, request: str) -> Deadlock | None:
        """Return the deadlock that the request is part of, or None. All requests of a deadlock get the same
        answer.
        """
        stuck = self.stuck()
        own = self._party(request)
        if own not in stuck:
            return None
        links = {party: list(self._links(party, stuck)) for party in stuck}
        holders = [party for party in self._on_common_cycle(own, links) if self._held_by_party.get(party)]
        if not holders:
            return None
        cycle = self._shortest_cycle(
            min(holders, key=lambda party: self._order(self._waiting[party][-1])), links
        )
        return Deadlock(cycle=cycle, proof=self._proof(cycle, stuck), victim=self._victim(cycle))

    def stuck(self, *, but: str = "") -> set[str]:
        """Return the parties that can never continue, even if `but` gave way."""
        stuck = self._waiting.keys() - {but}
        before = len(stuck) + 1
        while len(stuck) < before:
            before = len(stuck)
            for party in self._waiting:  # in order of rank, so that a queue empties in one pass
                if party in stuck and self._can_go_on(party, stuck):
                    stuck.discard(party)
        return stuck

    def _can_go_on(self, party: str, stuck: set[str]) -> bool:
        """Return whether one of the party's requests can be granted; with several requests, one suffices, to
        avoid false alarms.
        """
        return any(
            all(self._is_free(request, want, stuck) for want in request.wants)
            for request in self._waiting[party]
        )

    def _is_free(self, request: LockRequest, want: Want, stuck: set[str]) -> bool:
        if self._refusing_holdings(want, stuck):
            return False
        return stuck.isdisjoint(self._parties_ahead_of(request, want))

    def _blockers(self, request: LockRequest, want: Want, stuck: set[str]) -> list[str]:
        """Return the requests of stuck parties that prevent the want from being granted; [] if it would be
        granted.
        """
        if found := [holding.request for holding in self._refusing_holdings(want, stuck)]:
            return found
        return [other.id for other in self._requests_ahead(request, want) if other.party in stuck]

    def _refusing_holdings(self, want: Want, stuck: set[str]) -> list[Holding]:
        holdings = self.names.get(want.name, Name()).holdings
        return want.refusing_holdings([h for h in holdings if self._party(h.request) in stuck])

    def _requests_ahead(self, request: LockRequest, want: Want) -> Iterator[LockRequest]:
        """Yield the requests that precede this one at the name and cannot share it."""
        for other, its in self._queues.get(want.name, ()):
            if other.id == request.id or other.rank > request.rank:
                return
            if not want.mode == its.mode == SHARED:
                yield other

    def _parties_ahead_of(self, request: LockRequest, want: Want) -> tuple[str, ...]:
        """Return the parties ahead, cached because they are requested repeatedly."""
        key = request.id, want.name
        if key not in self._parties_ahead:
            self._parties_ahead[key] = tuple(other.party for other in self._requests_ahead(request, want))
        return self._parties_ahead[key]

    def _party(self, request: str) -> str | None:
        found = self.requests.get(request)
        return found.party if found else None

    def _links(self, party: str, stuck: set[str]) -> Iterator[Link]:
        for request in self._waiting[party]:
            for want in request.wants:
                for blocker in self._blockers(request, want, stuck):
                    yield Link(request.id, want.name, blocker)

    def _on_common_cycle(self, party: str, links: Mapping[str, list[Link]]) -> set[str]:
        """Return the parties on a common cycle with this one, including itself if it is on a cycle."""
        back: dict[str, set[str]] = {}
        for waiter, its in links.items():
            for link in its:
                back.setdefault(self.requests[link.blocker].party, set()).add(waiter)
        forth = {waiter: {self.requests[link.blocker].party for link in its} for waiter, its in links.items()}
        return _reached(party, forth) & _reached(party, back)

    def _shortest_cycle(self, party: str, links: Mapping[str, list[Link]]) -> tuple[Link, ...]:
        """Return the shortest cycle through the party (breadth-first search)."""
        reached_by: dict[str, Link] = {}
        queue = [party]
        for at in queue:
            for link in sorted(links[at]):
                target = self.requests[link.blocker].party
                if target not in reached_by:
                    reached_by[target] = link
                    queue.append(target)
            if party in reached_by:
                break
        path = [reached_by[party]]
        while (waiter := self.requests[path[-1].waiter].party) != party:
            path.append(reached_by[waiter])
        return tuple(reversed(path))

    def _proof(self, cycle: tuple[Link, ...], stuck: set[str]) -> tuple[Link, ...]:
        """Return the links of the cycle, and links that show why other holders of the same names cannot
        continue.
        """
        chosen = {link.waiter: link for link in cycle}
        queue = [self.requests[link.waiter].party for link in cycle]
        proof: list[Link] = []
        for party in queue:
            for request in self._waiting[party]:
                links = self._reason(request, chosen.get(request.id), stuck)
                proof += links
                blockers = (self.requests[link.blocker].party for link in links)
                queue += [other for other in dict.fromkeys(blockers) if other not in queue]
        return tuple(proof)

    def _reason(self, request: LockRequest, chosen: Link | None, stuck: set[str]) -> list[Link]:
        """Return the links that prevent the request: one blocker suffices, but for an amount all holders
        count.
        """
        for want in request.wants:
            blockers = self._blockers(request, want, stuck)
            if not blockers or (chosen and chosen.name != want.name):
                continue
            if want.counts and not self.requests[blockers[0]].waiting:
                return [Link(request.id, want.name, blocker) for blocker in blockers]
            return [chosen or Link(request.id, want.name, blockers[0])]
        return []

    def _victim(self, cycle: tuple[Link, ...]) -> str:
        """Return the request whose withdrawal frees most parties; then least work done, lowest priority,
        youngest.
        """
        waiters = [self.requests[link.waiter] for link in cycle]
        able = [waiter for waiter in waiters if waiter.may_give_way]
        return min(able, key=lambda w: (len(self.stuck(but=w.party)), self._order(w))).id

    def _order(self, request: LockRequest) -> tuple[int, int, int, str]:
        return (self._held_by_party.get(request.party, 0), request.priority, -request.rank, request.id)


def _reached(start: str, ways: Mapping[str, set[str]]) -> set[str]:
    """Return the nodes that can be reached from the start over at least one link."""
    reached: set[str] = set()
    queue = [start]
    while queue:
        for target in ways.get(queue.pop(), set()) - reached:
            reached.add(target)
            queue.append(target)
    return reached


MOST_REQUESTS = 500
"""Number of requests read for one check, nearest first; those beyond count as able to continue."""
VERDICT = "deadlock "


class Circle(FrozenModel):
    """A deadlock at present."""

    waits: tuple[tuple[str, str], ...]
    """Pairs of waiting party and name; the last party waits for a name that the first one holds."""
    words: str


class Detector:
    def __init__(self, connection: StepCaller, keys: LockKeys) -> None:
        self._connection = connection
        self._keys = keys

    def look(self, request: str) -> None:
        """Resolve the deadlock of the request, if it is in one. Raises DeadlockError if this request gives
        way.

        Another victim finds the verdict in its wake list and reads it with `verdict`.
        """
        read = self._graph(request)
        if read is None:
            return
        found = graph_of(read).deadlock(request)
        if found is None:
            return
        verdict_text = VERDICT + json.dumps(_describe_cycle(found, read))
        step = steps.Victim(request=found.victim, verdict=verdict_text, links=found.proof)
        if self._connection(step, [self._keys.head]) and found.victim == request:
            raise verdict(verdict_text) or AssertionError

    def circles(self, waiting: Iterable[str]) -> tuple[Circle, ...]:
        """Return the deadlocks among these requests, each once, without resolving them."""
        found: dict[frozenset[str], Circle] = {}
        for request in sorted(waiting):
            read = self._graph(request)
            if read is not None and (deadlock := graph_of(read).deadlock(request)):
                verdict_text = verdict(VERDICT + json.dumps(_describe_cycle(deadlock, read)))
                waiters = frozenset(link.waiter for link in deadlock.cycle)
                if verdict_text is not None:
                    found.setdefault(waiters, Circle(waits=verdict_text.cycle, words=verdict_text.message))
        return tuple(found.values())

    def _graph(self, request: str) -> GraphReply | None:
        return self._connection(steps.Graph(request=request, limit=MOST_REQUESTS), [self._keys.head])


def verdict(woken_by: str) -> DeadlockError | None:
    """Return the error if a request was woken by a verdict; None if it was woken by a grant."""
    if not woken_by.startswith(VERDICT):
        return None
    cycle = [
        (str(who), str(held), str(name)) for who, held, name in json.loads(woken_by.removeprefix(VERDICT))
    ]
    sentences = "; ".join(f"{who} {held} and waits for {name}" for who, held, name in cycle)
    whom = "they wait for each other" if len(cycle) > 1 else "it waits for itself"
    return DeadlockError(
        f"{whom}: {sentences}",
        "this one gives way: release its locks and start again; "
        "acquiring everything at once avoids deadlocks",
        cycle=tuple((who, name) for who, _, name in cycle),
    )


def graph_of(read: GraphReply) -> WaitGraph:
    """Build the graph from the answer of graph.lua, in which empty lists and empty mappings are
    indistinguishable.
    """
    return WaitGraph(map(_request, read["requests"]), {name["name"]: _name(name) for name in read["names"]})


def _request(read: steps.GraphRequest) -> LockRequest:
    return LockRequest(
        id=read["id"],
        party=read["party"],
        waiting=read["state"] == "waiting",
        wants=tuple(
            Want(want["name"], want["mode"], want["amount"], want["capacity"]) for want in read["wants"]
        ),
        rank=int(read["rank"]),
        priority=int(read["priority"] or 0),
        may_give_way=read.get("kind") != "todo",
    )


def _name(read: steps.GraphName) -> Name:
    alone = [Holding(holder)] if (holder := read.get("alone")) else []
    shares = [Holding(request, amount, alone=False) for amount, request in read["shares"]]
    return Name(holdings=(*alone, *shares), queue=tuple(read["queue"]))


def _describe_cycle(found: Deadlock, read: GraphReply) -> list[tuple[str, str, str]]:
    """Return for each party of the cycle: its description, what it blocks, and what it waits for."""
    requests = {request["id"]: request for request in read["requests"]}
    descriptions = []
    for before, link in zip((found.cycle[-1], *found.cycle[:-1]), found.cycle, strict=True):
        keeps = "holds" if requests[before.blocker]["state"] == "held" else "is next for"
        descriptions.append((holder_words(requests[link.waiter]), f"{keeps} {before.name}", link.name))
    return descriptions
