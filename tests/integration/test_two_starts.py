"""Several who start the same work at the same time: one of them does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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


def test_of_several_who_sweep_one_plan_at_the_same_instant_one_starts_a_run(redis_url: str):
    people = [Runs(redis_url, Settings()) for _ in range(4)]

    def sweep(runs: Runs) -> str:
        try:
            return runs.sweep(ecosystem({"A": "r1"}), graph({"A": "r1"}), order())
        except Conflict as refused:
            return refused.message

    with ThreadPoolExecutor(len(people)) as all_at_once:
        said = list(all_at_once.map(sweep, people))

    (started,) = people[0].store.live_runs()
    assert sorted(said) == sorted([started, *[f"run {started} of PLAN-001 is running and has A in hand"] * 3])
