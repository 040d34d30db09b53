"""Two who retry one run at the same time: one of them does."""

from __future__ import annotations

import pytest

from coordination.errors import Conflict
from coordination.runs.service import Runs
from coordination.settings import Settings
from tests.contracts.carrier import BAD, Harness
from tests.plans import ecosystem, graph, order


def test_a_run_is_taken_up_by_one_of_two_who_have_both_looked_at_it(redis_url: str):
    ann, ben = Runs(redis_url, Settings()), Runs(redis_url, Settings())
    run = Harness(ann.store)
    run.submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())
    run.drain(lambda _: BAD)
    first, second = ann.left_of(run.run_id), ben.left_of(run.run_id)
    started = ann.retry(first)

    with pytest.raises(Conflict, match=f"was retried already, as run {started}"):
        ben.retry(second)
    assert ann.store.live_runs() == [started]


def test_what_another_run_has_in_hand_is_not_taken_up(redis_url: str):
    runs = Runs(redis_url, Settings())
    run = Harness(runs.store)
    run.submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())
    run.drain(lambda _: BAD)
    left = runs.left_of(run.run_id)
    other = Harness(runs.store).submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())

    with pytest.raises(Conflict, match=f"run {other} of PLAN-001 is running and has A in hand"):
        runs.retry(left)
