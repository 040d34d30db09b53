"""A todo that was given an earlier result has succeeded; whose result it is stands beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordination.backend.client import Profile, connect
from coordination.cli.runs.summary import line, state_text
from coordination.runs.records import Result, Source, TodoState
from coordination.runs.store import RunStore
from tests.contracts.carrier import OK, Harness
from tests.plans import ecosystem, graph, order

TODOS = {"A": "r1", "B": ("r1", ["A"]), "C": ("r2", ["B"])}
OF_BEFORE = Source(run="R0", todo="Z")


@pytest.fixture
def harness(redis_url: str) -> Harness:
    return Harness(RunStore(connect(redis_url, Profile.COMMAND), "coord"))


def cached(tip: str = "") -> Result:
    return replace(OK, cached="R0 Z", tip=tip, began=tip and "0" * 40, output='{"n":1}')


def test_it_counts_as_a_success_and_is_told_from_one_that_ran(harness: Harness):
    harness.submit(graph(TODOS), ecosystem(TODOS), order())
    started = harness.drain(lambda grant: cached("1" * 40) if grant.todo_id == "B" else OK)

    run = harness.view()
    a, b, c = run.todos
    assert (started, run.status, dict(run.counts), run.cached) == (
        ["A", "B", "C"],
        "succeeded",
        {"succeeded": 3},
        1,
    )
    assert (a.cached, b.cached, c.cached) == (None, OF_BEFORE, None)
    assert (b.state, b.output, state_text(a), state_text(b)) == (
        TodoState.SUCCEEDED,
        {"n": 1},
        "succeeded",
        "cached",
    )
    assert line(b).plain.endswith("cached from Z of run R0")
    assert harness.store.redis.hget(harness.store.keys.counters, "todos_cached") == "1"


def test_what_is_settled_twice_is_counted_once(harness: Harness):
    harness.submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())
    grant = harness.take("A")

    assert [harness.settle(grant, cached()) for _ in range(2)] == ["settled", "again"]
    assert harness.view().cached == 1
