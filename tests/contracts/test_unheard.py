"""Every answer is lost: each step of a run is done, nobody hears of it, and it is asked for again. The second
time it changes nothing, and what the first answer would have told comes by another way.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import fakeredis
import pytest
from redis import Redis

from coordination.models import OnFailure, Strategy
from coordination.runs.records import Grant, Result
from coordination.runs.store import RunStore
from tests.chaos.failpoints.points import names
from tests.contracts.carrier import BAD, OK, Harness
from tests.plans import ecosystem, graph, order

AT_ONCE = timedelta(0)
HOUR_MS = 3600 * 1000
DIAMOND = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["A"]), "D": ("r1", ["B", "C"])}
STRATEGIES = pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
READ: dict[str, Callable[[Redis, str], Any]] = {
    "hash": lambda redis, key: redis.hgetall(key),
    "zset": lambda redis, key: set(redis.zrange(key, 0, -1)),  # a lease that is asked for again is renewed
    "set": lambda redis, key: redis.smembers(key),
    "list": lambda redis, key: redis.lrange(key, 0, -1),
    "stream": lambda redis, key: redis.xrange(key),
    "string": lambda redis, key: redis.get(key),
}
asked: set[str] = set()
"""Steps that these tests have come by."""


def kept(redis: Redis) -> dict[str, Any]:
    return {key: READ[redis.type(key)](redis, key) for key in redis.keys("*")}


class Unheard(RunStore):
    def _call(self, step: str, run_id: str, *args: str | int | float) -> list[Any]:
        super()._call(step, run_id, *args)
        before = kept(self.redis)
        answer = super()._call(step, run_id, *args)
        assert kept(self.redis) == before, f"{step}, asked for again, changes something"
        asked.add(f"run/{step}")
        return answer


@pytest.fixture
def unheard(store: RunStore) -> Harness:
    return Harness(Unheard(store.redis, store.keys.namespace))


def begin(run: Harness, todos: Any = DIAMOND, *, more: dict[str, Any] | None = None, **how: Any) -> Harness:
    run.submit(graph(todos, **(more or {})), ecosystem(todos, **(more or {})), order(**how))
    return run


def carried_on(run: Harness, result: Callable[[Grant], Result] = lambda _: OK) -> None:
    """By messages that the reaper sends, since no answer told of one, and by timers."""
    told: list[str] = []
    while told != (told := events(run)):
        run.drain(result)
        for run_id, todo_id in run.store.due(run.store.now_ms() + HOUR_MS):
            run.follow(run.store.fire(run_id, todo_id))
        run.join()
        run.follow(run.store.resend(run.run_id, AT_ONCE, 100))
        run.drain(result)


def events(run: Harness, what: str = "") -> list[str]:
    """The todos to which that happened; to which anything did."""
    found = run.store.redis.xrange(run.store.keys.run(run.run_id).events)
    return sorted(fields["todo"] for _, fields in found if what in ("", fields["what"]))


@STRATEGIES
def test_a_run_ends_right_though_no_step_of_it_was_ever_heard(unheard: Harness, strategy: Strategy):
    begin(unheard, strategy=strategy)

    carried_on(unheard)

    assert unheard.view().status == "succeeded"
    assert events(unheard, "todo.succeeded") == ["A", "B", "C", "D"]
    assert events(unheard, "todo.running") == ["A", "B", "C", "D"]


@STRATEGIES
def test_retries_leases_and_hand_backs_count_once(unheard: Harness, strategy: Strategy):
    begin(unheard, {"A": "r1"}, strategy=strategy)
    todo = unheard.take("A")
    unheard.store.checkpoint(todo, '{"n": 1}')
    unheard.follow(unheard.store.retry(todo, timedelta(milliseconds=1), BAD))
    carried_on(unheard)
    facts = unheard.store.redis.hgetall(unheard.store.keys.run(unheard.run_id).facts)
    assert (facts["A tries"], events(unheard, "todo.retrying")) == ("1", ["A"])

    begin(unheard, {"A": "r1"}, strategy=strategy)
    todo = unheard.take("A")
    unheard.follow(unheard.store.park(todo, "somebody", AT_ONCE))
    unheard.follow(unheard.store.fire(unheard.run_id, "A"))
    unheard.follow(unheard.store.resend(unheard.run_id, AT_ONCE, 1))
    unheard.follow(unheard.store.hand_back(unheard.take("A")))
    unheard.follow(unheard.store.resend(unheard.run_id, AT_ONCE, 1))
    unheard.take("A")
    unheard.store.redis.zadd(unheard.store.keys.leases, {f"{unheard.run_id} A": 1})
    unheard.follow(unheard.store.lose(unheard.run_id, "A", 3))
    unheard.follow(unheard.store.park_unserved(unheard.run_id, [("r1", "h1")]))
    carried_on(unheard)

    facts = unheard.store.redis.hgetall(unheard.store.keys.run(unheard.run_id).facts)
    assert (facts["A handed_back"], facts["A lost"]) == ("1", "1")
    assert unheard.view().status == "succeeded"


def test_what_people_ask_for_is_done_once(unheard: Harness):
    gated = {"B": {"gate": True}, "C": {"gate": True}, "D": {"action": {"type": "manual"}}}
    begin(unheard, {**DIAMOND, "D": ("r1", ["B"])}, more=gated)
    unheard.follow(unheard.store.pause(unheard.run_id, "ann"))
    unheard.follow(unheard.store.resume(unheard.run_id, "ann"))
    carried_on(unheard)
    unheard.follow(unheard.store.approve(unheard.run_id, "B", "ann", "go on"))
    unheard.follow(unheard.store.reject(unheard.run_id, "C", "ann", "no"))
    carried_on(unheard)
    unheard.follow(unheard.store.complete(unheard.run_id, "D", "ann"))

    assert unheard.states() == {"A": "succeeded", "B": "succeeded", "C": "failed", "D": "succeeded"}
    assert [len(events(unheard, what)) for what in ("run.paused", "run.resumed", "todo.rejected")] == [
        1,
        1,
        1,
    ]
    assert events(unheard, "todo.approved") == ["B", "D"]


def test_a_cancel_is_done_once(unheard: Harness):
    begin(unheard)
    running = unheard.take("A")
    unheard.follow(unheard.store.cancel(unheard.run_id, "ann"))
    unheard.settle(running, Result(outcome="cancelled"))  # type: ignore[arg-type]

    assert unheard.view().status == "cancelled"
    assert len(events(unheard, "run.cancelled")) == 1


@STRATEGIES
def test_a_rollback_is_done_once_and_ends(unheard: Harness, strategy: Strategy):
    begin(unheard, strategy=strategy, on_failure=OnFailure.ROLLBACK)
    carried_on(unheard)
    unheard.follow(unheard.store.rollback(unheard.run_id, "ann", "asked by ann"))
    carried_on(unheard, lambda grant: BAD if grant.todo_id == "A" else OK)
    assert unheard.view().status == "rollback_failed"
    unheard.follow(unheard.store.accept(unheard.run_id, "A", "ann", "it may stay"))

    assert unheard.view().status == "rolled_back"
    assert events(unheard, "todo.compensated") == ["A", "B", "C", "D"]


OTHERWISE = {
    "run/seal",
    "run/adopt",
    "run/stuck",
    "run/report_stuck",
    "run/remainder",
    "run/hold_up",
    "run/restore",
}
"""Tested where they stand: test_run_steps.py, test_run_moved.py, test_stuck.py, test_large_runs.py."""


def test_no_step_was_left_out():
    """It runs the others itself: what they came by is known when they did."""
    for strategy in (Strategy.LEVELS, Strategy.DATAFLOW):
        test_retries_leases_and_hand_backs_count_once(on_a_fake(), strategy)
    test_what_people_ask_for_is_done_once(on_a_fake())
    test_a_cancel_is_done_once(on_a_fake())
    test_a_rollback_is_done_once_and_ends(on_a_fake(), Strategy.LEVELS)

    assert {name for name in names() if name.startswith("run/")} - asked == OTHERWISE


def on_a_fake() -> Harness:
    return Harness(Unheard(fakeredis.FakeRedis(decode_responses=True), "test"))
