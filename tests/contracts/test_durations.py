"""Durations of todos are learned when they settle, and used for todos without an estimate."""

from __future__ import annotations

import pytest

from coordination.planner.forecast import forecast
from coordination.planner.graph import build
from coordination.planner.hours import Group
from coordination.runs.records import Result, TodoState
from coordination.runs.views.run_view import RunReader
from tests import plans
from tests.engine import BAD, OK, Engine

SHELL, DOCS = Group("api", "shell"), Group("api", "shell:docs")


@pytest.fixture
def engine(run: Engine) -> Engine:
    return run


def run(engine: Engine, result: Result = OK, **todo: object) -> None:
    eco = plans.ecosystem({"A": "api"}, A=todo)
    engine.submit(build(eco, plans.PLAN), eco, plans.order())
    engine.drain(lambda _: result)


def kept(engine: Engine) -> dict[str, list[int]]:
    redis = engine.store.redis
    return {key.removeprefix("test:durations:"): [int(ms) for ms in redis.lrange(key, 0, -1)]
            for key in redis.scan_iter("test:durations:*")}  # fmt: skip


def test_the_last_25_durations_of_succeeded_todos_are_kept(engine: Engine):
    for _ in range(27):
        run(engine, labels=["docs"])

    assert {group: len(durations) for group, durations in kept(engine).items()} == {
        "api shell": 25,
        "api shell:docs": 25,
    }
    assert all(
        0 < engine.store.redis.ttl(f"test:durations:{group}") <= 90 * 24 * 3600 for group in kept(engine)
    )


@pytest.mark.parametrize(
    "result",
    [BAD, Result(outcome=TodoState.CANCELLED), Result(outcome=TodoState.SUCCEEDED, cached="run-1 A")],
    ids=["failed", "cancelled", "restored from an earlier result"],
)
def test_durations_of_other_todos_and_of_work_by_hand_are_not_kept(engine: Engine, result: Result):
    run(engine, result, retry={"attempts": 1})
    run(engine, action={"type": "manual"})
    engine.complete("A", "ann")

    assert engine.states() == {"A": "succeeded"}
    assert kept(engine) == {}


def test_a_missing_estimate_is_the_median_of_similar_todos(engine: Engine):
    store = engine.store
    for key, minutes in (("api shell", (60, 120, 600)), ("api shell:docs", (30,))):
        store.redis.rpush(f"test:durations:{key}", *(m * 60_000 for m in minutes))
    todos = {"said": "api", "docs": "api", "plain": "api", "other": "api", "away": "web", "agent": "api"}
    graph = build(
        plans.ecosystem(
            todos,
            said={"estimated_hours": 4},
            docs={"labels": ["docs"]},
            other={"labels": ["urgent", "docs"]},
            agent={"action": {"type": "agent", "prompt": "x"}},
        ),
        plans.PLAN,
    )

    known = graph.with_learned(RunReader(store.redis, store.keys).learned(graph.unknown))

    assert dict(known.hours) == {"said": 4, "docs": 0.5, "plain": 2, "other": 2, "away": 4, "agent": 4}
    foreseen = forecast(known)
    assert (foreseen.estimated, foreseen.learned, foreseen.assumed) == (1, 3, 2)
    assert known.order["docs"] > known.order["plain"]
