"""Several who start the same work at the same time: one of them does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from coordination.errors import Conflict
from coordination.locks.request import START
from coordination.runs.connection import Connection
from coordination.runs.control.starting import start_lock, start_run
from coordination.runs.retrying.retry_run import plan_retry, start_retry
from coordination.settings import Settings
from tests.engine import BAD, Engine
from tests.lock_holders import begin
from tests.plans import ecosystem, graph, order


def test_a_run_is_taken_up_by_one_of_two_who_have_both_looked_at_it(redis_url: str):
    ann, ben = Connection(redis_url, Settings()), Connection(redis_url, Settings())
    run = Engine(ann.store)
    run.submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())
    run.drain(lambda _: BAD)
    first, second = plan_retry(ann, run.run_id), plan_retry(ben, run.run_id)
    started = start_retry(ann, first)

    with pytest.raises(Conflict, match=f"has a retry already, run {started}"):
        start_retry(ben, second)
    assert ann.store.live_runs() == [started]


def test_what_another_run_has_in_hand_is_not_taken_up(redis_url: str):
    connection = Connection(redis_url, Settings())
    run = Engine(connection.store)
    run.submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())
    run.drain(lambda _: BAD)
    left = plan_retry(connection, run.run_id)
    other = Engine(connection.store).submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())

    with pytest.raises(Conflict, match=f"run {other} of PLAN-001 is running and executes A"):
        start_retry(connection, left)


def test_one_of_several_simultaneous_sweeps_of_a_plan_starts_a_run(redis_url: str):
    people = [Connection(redis_url, Settings()) for _ in range(4)]

    def sweep(connection: Connection) -> str:
        try:
            return start_run(connection, ecosystem({"A": "r1"}), graph({"A": "r1"}), order())
        except Conflict as refused:
            return refused.message

    with ThreadPoolExecutor(len(people)) as all_at_once:
        said = list(all_at_once.map(sweep, people))

    (started,) = people[0].store.live_runs()
    assert sorted(said) == sorted([started, *[f"run {started} of PLAN-001 is running and executes A"] * 3])


def test_a_start_does_not_wait_for_one_of_this_host_that_was_killed(redis_url: str):
    connection = Connection(redis_url, Settings(namespace="test"))
    killed = begin(redis_url, START, ttl_ms=timedelta(days=1) // timedelta(milliseconds=1))
    killed.stdout.readline()
    killed.kill()
    killed.wait()

    with start_lock(connection) as lock:
        assert lock.remaining_s > 0
