"""Durations of todos are learned when they settle, and used for todos without an estimate."""

from __future__ import annotations

import pytest

from coordination.planner.forecast import forecast
from coordination.planner.graph import build
from coordination.planner.hours import Group
from coordination.runs.records import Result, TodoState
from coordination.runs.views.run_view import RunReader
from tests import plans
from tests.contracts.run_harness import BAD, OK, Harness

SHELL, DOCS = Group("api", "shell"), Group("api", "shell:docs")


@pytest.fixture
def harness(run: Harness) -> Harness:
    return run


def run(harness: Harness, result: Result = OK, **todo: object) -> None:
    eco = plans.ecosystem({"A": "api"}, A=todo)
    harness.submit(build(eco, plans.PLAN), eco, plans.order())
    harness.drain(lambda _: result)


def kept(harness: Harness) -> dict[str, list[int]]:
    redis = harness.store.redis
    return {key.removeprefix("test:durations:"): [int(ms) for ms in redis.lrange(key, 0, -1)]
            for key in redis.scan_iter("test:durations:*")}  # fmt: skip


def test_the_last_25_durations_of_succeeded_todos_are_kept(harness: Harness):
    for _ in range(27):
        run(harness, labels=["docs"])

    assert {group: len(durations) for group, durations in kept(harness).items()} == {
        "api shell": 25,
        "api shell:docs": 25,
    }
    assert all(
        0 < harness.store.redis.ttl(f"test:durations:{group}") <= 90 * 24 * 3600 for group in kept(harness)
    )


@pytest.mark.parametrize(
    "result",
    [BAD, Result(outcome=TodoState.CANCELLED), Result(outcome=TodoState.SUCCEEDED, cached="run-1 A")],
    ids=["failed", "cancelled", "restored from an earlier result"],
)
def test_durations_of_other_todos_and_of_work_by_hand_are_not_kept(harness: Harness, result: Result):
    run(harness, result, retry={"attempts": 1})
    run(harness, action={"type": "manual"})
    harness.follow(harness.store.complete(harness.run_id, "A", "ann"))

    assert harness.states() == {"A": "succeeded"}
    assert kept(harness) == {}


def test_a_missing_estimate_is_the_median_of_similar_todos(harness: Harness):
    store = harness.store
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
