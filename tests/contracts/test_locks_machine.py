"""Locks in any order of events, held against a model (tests/lock_model.py), and in rare orders.

Time stands still: a ttl runs out when the machine lets it, as Redis would, without notifying anybody. Waiters
notice when they look again. The model foretells each answer and each hand-over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pytest
import redis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coordination.backend.client import Profile, connect
from coordination.backend.steps.lock import Break, GiveBack, Held, Queued, Renew, Taken
from tests.examples import examples
from tests.lock_model import GONE, HOUR_MS, Model, Request, Seen, Table

STEP_US = 5_000_000
CAPACITIES = {"resource:gpu": 3, "resource:db": 1, "slot:repo": 2}
LOCKS = ("lock:a", "lock:b", "lock:c")
NAMES = (*LOCKS, *CAPACITIES)
MODES = {
    **dict.fromkeys(LOCKS, st.sampled_from(["x", "s"])),
    "resource:gpu": st.sampled_from(["1/0", "2/0", "3/0"]),
    "resource:db": st.just("1/0"),
    "slot:repo": st.sampled_from(["1/2", "2/2"]),
}
PLAYS = [
    ("lock:a",),
    ("resource:gpu",),
    ("lock:a", "resource:gpu"),
    ("lock:a", "lock:b"),
    ("lock:a", "slot:repo"),
    NAMES,
]
"""Few names at a time: then many want the same."""


def wants_of(names: Sequence[str]) -> st.SearchStrategy[dict[str, str]]:
    named = st.sets(st.sampled_from(names), min_size=1, max_size=3)
    return named.flatmap(lambda some: st.fixed_dictionaries({name: MODES[name] for name in sorted(some)}))


class AnyHistory(RuleBasedStateMachine):
    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.table = Table(client, CAPACITIES)
        self.redis, self.keys = client, self.table.keys
        self.model = Model(CAPACITIES)
        self.unseen: set[str] = set()
        """Names of which something ended without a step that could have handed it over."""
        self.granted = dict.fromkeys(CAPACITIES, 0)

    def see(self) -> Seen:
        return self.table.see(
            [id_ for id_, request in self.model.requests.items() if request.state != "over"], NAMES
        )

    def ask(self, request: Request, place_ms: int = HOUR_MS) -> None:
        """Asks, for the first time or again; the answer is what the model says."""
        before = self.see()
        if request.state == "held":
            again = self.table.ask(request, place_ms)
            assert isinstance(again, Held)
            assert again.fence == request.fence, "asked twice, granted twice"
            return
        answer = self.table.ask(request, place_ms)
        self.rank(request, float(answer.rank) if isinstance(answer, Queued) else None)
        in_the_way = self.model.in_the_way(request, before.queues)
        if isinstance(answer, Held):
            assert not in_the_way
            self.grant(request, answer.fence)
        else:
            assert isinstance(answer, Queued if place_ms else Taken)
            assert set(answer.blocking) == in_the_way
            request.state = "waiting" if place_ms else "over"
        self.follow(before)

    def rank(self, request: Request, told: float | None) -> None:
        """Where the answer does not tell it, it is that of one who arrives now."""
        if request.rank is None:
            seconds, micros = self.redis.time()
            request.rank = told or seconds * 1_000_000 + micros - request.priority * STEP_US
            earlier = [
                r for r in self.model.requests.values() if r.priority == request.priority and r is not request
            ]
            assert all(r.rank < request.rank for r in earlier if r.rank is not None), "not first come"
        assert told in (None, request.rank), "its place was lost"

    def grant(self, request: Request, fence: int) -> None:
        self.model.grant(request, fence)
        for name in CAPACITIES.keys() & request.wants.keys():
            self.granted[name] += 1

    def follow(self, before: Seen) -> None:
        """Each request that was granted was told once, with its fence, and no other was passed over."""
        after = self.see()
        waiting = self.model.of("waiting")
        handed = [r for r in waiting if after.records[r.id][0] == "held"]
        for request in sorted(handed, key=lambda r: int(after.records[r.id][1] or 0)):
            fence = int(after.records[request.id][1] or 0)
            told = [word.split()[:2] for word in self.redis.lrange(self.keys.wake(request.id), 0, -1)]
            assert told == [["held", str(fence)]], "not told, or told twice"
            self.redis.delete(self.keys.wake(request.id))
            self.grant(request, fence)
        for request in handed:
            for name in request.wants:
                assert not self.model.ahead(request, name, before.queues[name]), (
                    "passed somebody who came first"
                )

    def let_go(self, request: Request) -> None:
        before = self.see()
        assert self.table.release(request)
        request.state = "over"
        self.follow(before)

    def leave(self, request: Request) -> None:
        before = self.see()
        assert self.table.call(GiveBack(requests=[request.id])) == 1
        request.state = "over"
        self.follow(before)

    def any_of(self, data: st.DataObject, *states: str, alive: bool = True) -> Request:
        found = [r for state in states for r in self.model.of(state, alive=alive)]
        return data.draw(st.sampled_from(found))

    def has(*states: str, alive: bool = True):
        return precondition(lambda self: any(self.model.of(state, alive=alive) for state in states))

    @initialize(names=st.sampled_from(PLAYS))
    def these_names_are_wanted(self, names: tuple[str, ...]) -> None:
        self.wanted = wants_of(names)

    @rule(data=st.data(), priorities=st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=1, max_size=4))
    def some_ask(self, data: st.DataObject, priorities: list[int]) -> None:
        for priority in priorities:
            self.ask(self.newcomer(data.draw(self.wanted), priority))

    @rule(data=st.data())
    def somebody_asks_and_does_not_wait(self, data: st.DataObject) -> None:
        request = self.newcomer(data.draw(self.wanted), 0)
        self.ask(request, place_ms=0)
        if request.state == "over":
            assert not list(self.redis.scan_iter(f"*{request.id}*"))

    def newcomer(self, wants: dict[str, str], priority: int) -> Request:
        request = Request(f"r{len(self.model.requests):04}", wants, priority)
        self.model.requests[request.id] = request
        return request

    @has("waiting", "held")
    @rule(data=st.data())
    def a_command_is_sent_again(self, data: st.DataObject) -> None:
        self.ask(self.any_of(data, "waiting", "held"))

    @has("held")
    @rule(data=st.data())
    def a_holder_renews(self, data: st.DataObject) -> None:
        assert self.table.call(Renew(request=self.any_of(data, "held").id))

    @has("held")
    @rule(data=st.data())
    def a_holder_releases(self, data: st.DataObject) -> None:
        self.let_go(self.any_of(data, "held"))

    @has("held")
    @rule(data=st.data())
    def a_release_is_sent_twice(self, data: st.DataObject) -> None:
        request = self.any_of(data, "held")
        self.let_go(request)
        assert self.table.release(request)

    @has("held", alive=False)
    @rule(data=st.data())
    def somebody_takes_a_name_from_a_holder_by_force(self, data: st.DataObject) -> None:
        request = self.any_of(data, "held", alive=False)
        before = self.see()
        name = data.draw(st.sampled_from(sorted(request.wants)))
        assert self.table.call(Break(what=name, actor="somebody", requests=[request.id])) == 1
        request.state = "over"
        self.follow(before)

    @has("over", "waiting", alive=False)
    @rule(data=st.data())
    def who_does_not_hold_can_neither_renew_nor_release(self, data: st.DataObject) -> None:
        request = self.any_of(data, "over", "waiting", alive=False)
        before = self.see()
        assert not self.table.call(Renew(request=request.id))
        self.table.release(request)
        assert self.see() == before

    @has("waiting", "held")
    @rule(data=st.data())
    def somebody_waits_no_longer_granted_or_not(self, data: st.DataObject) -> None:
        self.leave(self.any_of(data, "waiting", "held"))

    @has("held", "waiting")
    @rule(data=st.data())
    def somebody_crashes(self, data: st.DataObject) -> None:
        self.any_of(data, "held", "waiting").alive = False

    @has("held", "waiting", alive=False)
    @rule(data=st.data(), noticed=st.booleans())
    def a_ttl_runs_out(self, data: st.DataObject, noticed: bool) -> None:
        """A holder did not renew, or a waiter did not look, so its place expires."""
        request = self.any_of(data, "held", "waiting", alive=False)
        self.expire(request)
        if noticed:
            self.everybody_looks(data)

    def expire(self, request: Request) -> None:
        self.table.expire(request, held=request.state == "held")
        request.state = "away" if request.state == "waiting" and request.alive else "over"
        self.unseen |= request.wants.keys()

    @rule(data=st.data())
    def everybody_looks(self, data: st.DataObject) -> None:
        """In any order, as each who waits does every second, and when a ttl runs out."""
        self.look(data.draw(st.permutations(self.model.of("away") + self.model.of("waiting", alive=True))))

    def look(self, requests: Sequence[Request]) -> None:
        for request in requests:
            if request.state in (
                "away",
                "waiting",
            ):  # and was not handed what it wants by the look of another
                self.ask(request)
        self.unseen.clear()

    @precondition(lambda self: len(self.model.fences) > 2)
    @rule()
    def the_server_loses_its_data(self) -> None:
        self.table.empty()
        for request in self.model.of("held"):
            request.state = "over"
        for request in self.model.of("waiting"):
            request.state = "away" if request.alive else "over"
        self.granted = dict.fromkeys(CAPACITIES, 0)
        self.unseen = set(NAMES)

    @invariant()
    def holders_exclude_each_other(self) -> None:
        self.model.check_exclusion(NAMES)

    @invariant()
    def redis_knows_the_same_holders_and_no_request_has_a_part(self) -> None:
        seen = self.see()
        for name in NAMES:
            holders = self.model.holders(name)
            exclusive = [r.id for r in holders if r.wants[name] == "x"]
            amounts = {self.table.share(r, name) for r in holders if r.wants[name] != "x"}
            assert [seen.exclusive[name]] == (exclusive or [None])
            assert seen.shares[name] == amounts
        for id_, (state, fence) in seen.records.items():
            request = self.model.requests[id_]
            assert state == (request.state if request.state in ("held", "waiting") else None)
            assert state != "held" or fence == str(request.fence)

    @invariant()
    def nobody_waits_for_what_it_could_have(self) -> None:
        seen = self.see()
        for request in self.model.of("waiting", alive=True):
            queued = {name for name in NAMES if request.id in [id_ for _, id_ in seen.queues[name]]}
            assert queued, "waits in no queue"
            assert queued <= request.wants.keys()
            assert all(
                seen.records.get(id_, GONE)[0] != "held" for name in queued for _, id_ in seen.queues[name]
            )
            if not self.unseen & request.wants.keys():
                assert self.model.in_the_way(request, seen.queues), f"{request} could be granted"

    @invariant()
    def statistics_add_up(self) -> None:
        for name in ("resource:gpu", "resource:db"):
            granted, used = self.redis.hmget(self.keys.stats(name), "granted", "used")
            # Also those that expired and were not seen yet.
            shares = self.redis.zrange(self.keys.shares(name), 0, -1)
            assert int(granted or 0) == self.granted[name]
            assert int(used or 0) == sum(int(share.partition(" ")[0]) for share in shares)

    def teardown(self) -> None:
        """When all is over, nothing is left that does not go away by itself."""
        for request in self.model.of("held") + self.model.of("waiting"):
            if not request.alive:
                self.expire(request)
        self.look(self.model.of("away") + self.model.of("waiting", alive=True))
        while held := self.model.of("held"):
            self.let_go(held[0])
        assert not self.model.of("waiting"), "somebody waits for ever"
        self.table.sweep()
        assert not list(self.redis.scan_iter(self.keys.request("*")))
        kept = {key for key in self.redis.scan_iter("*") if self.redis.ttl(key) == -1}
        stats = {self.keys.stats(name) for name in CAPACITIES}
        assert (
            kept
            <= {self.keys.capacities, self.keys.epoch, self.keys.released, "test:fence", "test:events"}
            | stats
        )


SETTINGS = settings(
    max_examples=examples(40),
    stateful_step_count=40,
    phases=[Phase.reuse, Phase.generate],  # a history on a real server takes minutes to shrink
)


@pytest.fixture
def history(redis_url: str) -> Iterator[AnyHistory]:
    with connect(redis_url, Profile.COMMAND) as client:
        yield AnyHistory(client)


def test_locks_keep_their_promises_in_any_history(redis_url: str) -> None:
    with connect(redis_url, Profile.COMMAND) as client:
        run_state_machine_as_test(partial(AnyHistory, client), settings=SETTINGS)


def asked(history: AnyHistory, *wanted: dict[str, str]) -> list[Request]:
    """One after the other."""
    requests = [history.newcomer(wants, 0) for wants in wanted]
    for request in requests:
        history.ask(request)
    return requests


def test_a_granted_waiter_hands_on_what_it_leaves(history: AnyHistory) -> None:
    slots, lock, both, behind = asked(
        history,
        {"slot:repo": "2/2"},
        {"lock:a": "x"},
        {"slot:repo": "1/2", "lock:a": "x"},
        {"slot:repo": "1/2"},
    )
    history.let_go(slots)

    history.expire(lock)
    history.ask(both)

    assert [both.state, behind.state] == ["held", "held"]


def test_a_waiter_whose_place_expired_leaves_no_entry_in_the_queue_once_granted(history: AnyHistory) -> None:
    first, second = asked(history, {"lock:a": "x"}, {"lock:a": "x"})
    history.expire(first)
    history.expire(second)

    history.ask(second)

    assert second.state == "held"
    assert history.see().queues["lock:a"] == []


def test_a_waiter_behind_one_that_leaves_goes_on_at_once(history: AnyHistory) -> None:
    _, leaver, behind = asked(
        history, {"resource:gpu": "2/0"}, {"resource:gpu": "2/0"}, {"resource:gpu": "1/0"}
    )

    history.leave(leaver)

    assert behind.state == "held"


def test_one_that_shares_passes_one_that_shares_and_waits_for_something_else(history: AnyHistory) -> None:
    alone, _, both, behind = asked(
        history, {"lock:a": "x"}, {"lock:b": "x"}, {"lock:a": "s", "lock:b": "x"}, {"lock:a": "s"}
    )

    history.let_go(alone)

    assert [both.state, behind.state] == ["waiting", "held"]


def test_a_share_that_expired_unseen_counts_as_used_until_then(history: AnyHistory) -> None:
    dead, alive = asked(history, {"resource:gpu": "1/0"}, {"resource:gpu": "1/0"})
    stats, shares = history.keys.stats("resource:gpu"), history.keys.shares("resource:gpu")
    began_ms = history.table.now_ms() - 100_000
    history.redis.hset(stats, mapping={"from": began_ms, "since": began_ms})

    history.expire(dead)
    history.redis.zadd(shares, {f"1 {dead.id}": began_ms + 10_000})
    history.let_go(alive)

    assert 110_000 <= int(history.redis.hget(stats, "used_ms")) < 150_000
