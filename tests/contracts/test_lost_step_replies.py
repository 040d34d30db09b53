"""Every answer of a step of a run is lost: asked for again, the step changes nothing, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis
from redis.client import Pipeline

from coordination.backend.steps.run import RunStep
from coordination.models import OnFailure, Strategy
from coordination.runs.attempt_store import Grant
from coordination.runs.records import AgentUsage, Result
from coordination.runs.store import RunStore
from tests.chaos.failpoints.points import steps
from tests.engine import BAD, OK, Engine

AT_ONCE = timedelta(0)
HOUR_MS = 3600 * 1000
DIAMOND = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["A"]), "D": ("r1", ["B", "C"])}
STRATEGIES = pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
READ: dict[str, Callable[[Pipeline, str], object]] = {
    "hash": lambda pipe, key: pipe.hgetall(key),
    "zset": lambda pipe, key: pipe.zrange(key, 0, -1),
    "set": lambda pipe, key: pipe.smembers(key),
    "list": lambda pipe, key: pipe.lrange(key, 0, -1),
    "stream": lambda pipe, key: pipe.xrange(key),
    "string": lambda pipe, key: pipe.get(key),
}
asked: set[str] = set()
"""Steps that were asked for twice."""
OTHERWISE = {
    f"run/{step}" for step in ["seal", "adopt", "stuck", "report_stuck", "remainder", "hold_up", "restore"]
}
"""Tested in test_run_steps.py, test_run_moved.py, test_stuck_runs.py and test_large_runs.py."""


def kept(redis: Redis) -> dict[str, Any]:
    """All data, but for the scores of sorted sets: a lease that is asked for again is renewed."""
    keys = redis.keys("*")
    with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        kinds = pipe.execute()
        for key, kind in zip(keys, kinds, strict=True):
            READ[kind](pipe, key)
        found = zip(keys, kinds, pipe.execute(), strict=True)
    return {key: set(held) if kind == "zset" else held for key, kind, held in found}


class Unheard(RunStore):
    def _call(self, step: RunStep[Any], further: Sequence[str] = ()) -> Any:
        if step.name in OTHERWISE:
            return super()._call(step, further)
        super()._call(step, further)
        before = kept(self.redis)
        answer = super()._call(step, further)
        assert kept(self.redis) == before, f"{step.name}, asked for again, changes something"
        asked.add(step.name)
        return answer


@pytest.fixture
def unheard(store: RunStore) -> Engine:
    return Engine(Unheard(store.redis, store.keys.namespace))


def carried_on(run: Engine, result: Callable[[Grant], Result] = lambda _: OK) -> None:
    """By messages that the reaper sends, since no answer told of one, and by timers."""
    told: list[str] = []
    while told != (told := events(run)):
        run.drain(result)
        for run_id, todo_id in run.store.due(run.now_ms() + HOUR_MS):
            run.follow(run.store.fire(run_id, todo_id))
        run.join()
        run.resend(AT_ONCE, 100)
        run.drain(result)


def events(run: Engine, what: str = "") -> list[str]:
    """The todos of these events."""
    return sorted(fields["todo"] for fields in run.events(what))


@STRATEGIES
def test_a_run_ends_right_though_no_step_of_it_was_ever_heard(unheard: Engine, strategy: Strategy):
    unheard.begin(DIAMOND, strategy=strategy)

    carried_on(unheard)

    assert unheard.view().status == "succeeded"
    assert events(unheard, "todo.succeeded") == ["A", "B", "C", "D"]
    assert events(unheard, "todo.running") == ["A", "B", "C", "D"]


@STRATEGIES
def test_retries_leases_and_hand_backs_count_once(unheard: Engine, strategy: Strategy):
    unheard.begin({"A": "r1"}, strategy=strategy)
    todo = unheard.take("A")
    unheard.checkpoint(todo, '{"n": 1}')
    assert unheard.store.note_usage(todo, AgentUsage(turns=1)).word == "noted"
    assert unheard.store.note_change(todo, "NONE", "r1", landed="{}").word == "gone"
    unheard.retry(todo, timedelta(milliseconds=1), BAD)
    carried_on(unheard)
    assert (unheard.facts()["A tries"], events(unheard, "todo.retrying")) == ("1", ["A"])

    unheard.begin({"A": "r1"}, strategy=strategy)
    todo = unheard.take("A")
    unheard.park(todo, "somebody", AT_ONCE)
    unheard.fire("A")
    unheard.resend(AT_ONCE, 1)
    unheard.hand_back(unheard.take("A"))
    unheard.resend(AT_ONCE, 1)
    unheard.take("A")
    unheard.lose("A")
    unheard.park_unserved([("r1", "h1")])
    carried_on(unheard)

    assert (unheard.facts()["A handed_back"], unheard.facts()["A lost"]) == ("1", "1")
    assert unheard.view().status == "succeeded"


def test_what_people_ask_for_is_done_once(unheard: Engine):
    gated = {"B": {"gate": True}, "C": {"gate": True}, "D": {"action": {"type": "manual"}}}
    unheard.begin({**DIAMOND, "D": ("r1", ["B"])}, more=gated)
    unheard.pause("ann")
    unheard.resume("ann")
    carried_on(unheard)
    unheard.approve("B", "ann", "go on")
    unheard.reject("C", "ann", "no")
    carried_on(unheard)
    unheard.complete("D", "ann")

    assert unheard.states() == {"A": "succeeded", "B": "succeeded", "C": "failed", "D": "succeeded"}
    for what in ("run.paused", "run.resumed", "todo.rejected"):
        assert len(events(unheard, what)) == 1
    assert events(unheard, "todo.approved") == ["B", "D"]


def test_a_cancel_is_done_once(unheard: Engine):
    unheard.begin(DIAMOND)
    running = unheard.take("A")
    unheard.cancel("ann")
    unheard.settle(running, Result(outcome="cancelled"))  # type: ignore[arg-type]

    assert unheard.view().status == "cancelled"
    assert len(events(unheard, "run.cancelled")) == 1


@STRATEGIES
def test_a_rollback_is_done_once_and_ends(unheard: Engine, strategy: Strategy):
    unheard.begin(DIAMOND, strategy=strategy, on_failure=OnFailure.ROLLBACK)
    carried_on(unheard)
    unheard.roll_back()
    carried_on(unheard, lambda grant: BAD if grant.todo_id == "A" else OK)
    assert unheard.view().status == "rollback_failed"
    unheard.accept("A", "ann", "it may stay")

    assert unheard.view().status == "rolled_back"
    assert events(unheard, "todo.compensated") == ["A", "B", "C", "D"]


def test_each_step_of_a_run_is_asked_for_twice_here(unheard: Engine):
    """Run the other tests, whatever was run before."""
    asked.clear()
    for test, *how in (
        (test_retries_leases_and_hand_backs_count_once, Strategy.LEVELS),
        (test_what_people_ask_for_is_done_once,),
        (test_a_cancel_is_done_once,),
        (test_a_rollback_is_done_once_and_ends, Strategy.LEVELS),
    ):
        unheard.store.redis.flushall()
        test(unheard, *how)

    assert {name for name in steps() if name.startswith("run/")} - asked == OTHERWISE
