"""The server's clock is set while runs go on: no worker is lost for it, and no timer waits longer.

The server is in this process: all of its time is Python's `time.time`; ours, `time.monotonic`, goes on.
A real server behind a shifted clock: tests/chaos/test_set_clock.py. Not covered: a machine that sleeps, and a
time service that slews.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import fakeredis
import pytest

from coordination.durations import ms
from coordination.runs.maintenance.clock import ClockWatch
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.settings import Settings
from tests.engine import BAD, LEASE, Engine

HOUR = timedelta(hours=1)
SETTINGS = Settings(lease_ttl=LEASE)


class Wall:
    """The server's time."""

    def __init__(self) -> None:
        self._real = time.time
        self._by_s = 0.0

    def __call__(self) -> float:
        return self._real() + self._by_s

    def set(self, by: timedelta) -> None:
        self._by_s += by.total_seconds()


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    made = Wall()
    monkeypatch.setattr(time, "time", made)
    return made


@pytest.fixture
def store(wall: Wall) -> Iterator[RunStore]:
    with fakeredis.FakeRedis(decode_responses=True) as client:
        yield RunStore(client, "test")


@pytest.fixture
def watch(store: RunStore) -> ClockWatch:
    made = ClockWatch(store, SETTINGS)
    assert made.look() is None
    return made


def begin(run: Engine, *todos: str, **more) -> Engine:
    return run.begin({todo: f"r{i}" for i, todo in enumerate(todos)}, more=more)


def lost(run: Engine, at_ms: int) -> list[str]:
    """The work of a reaper with the leases that have expired by then."""
    return [run.store.lose(r, todo, 3, at_ms).word for r, todo in run.store.expired(at_ms)]


def due_in(run: Engine, key: str, todo: str) -> timedelta:
    """When the server would have it so, by its clock."""
    score = run.store.redis.zscore(key, f"{run.run_id} {todo}")
    return timedelta(milliseconds=score - run.now_ms())


def test_a_step_after_the_look_costs_nobody_a_lease(run: Engine, wall: Wall, watch: ClockWatch):
    begin(run, "A").take("A")
    wall.set(HOUR)  # between the look and what follows from it

    assert run.store.lose(run.run_id, "A", 3, watch.now_ms).word == "alive"
    assert lost(run, watch.now_ms) == []
    step = watch.look()  # in the next round it is known, and leases are not trusted
    assert step is not None
    assert abs(step.by_ms - ms(HOUR)) < 1000


@pytest.mark.parametrize("later", [False, True], ids=["at once", "by who leads later"])
def test_after_a_step_back_no_lease_lasts_longer_than_one_can(
    run: Engine, wall: Wall, watch: ClockWatch, later: bool
):
    assert [watch.look() for _ in range(3)] == [None] * 3, "no step"
    begin(run, "A").take("A")
    wall.set(-HOUR)
    assert due_in(run, run.store.keys.leases, "A") > HOUR

    watch.look()
    assert watch.was_set_back
    if later:
        watch.look()
    watch.answer()

    assert not watch.was_set_back
    assert due_in(run, run.store.keys.leases, "A") <= LEASE
    wall.set(LEASE)
    assert lost(run, run.now_ms()) == ["requeued"]


def test_after_a_step_back_timers_wait_as_long_as_they_should(run: Engine, wall: Wall, watch: ClockWatch):
    begin(run, "A", "B", "C", "D", D={"gate": {"timeout": "1d"}})
    run.store.retry(run.take("A"), timedelta(seconds=30), BAD)
    run.store.park(run.take("B"), "a reason", timedelta(seconds=30))
    held = run.take("C")
    wall.set(-HOUR)
    run.store.retry(held, timedelta(hours=2), BAD)  # by the clock as it is now

    watch.look()
    watch.answer()

    timers = run.store.keys.timers
    assert timedelta(seconds=28) < due_in(run, timers, "A") <= timedelta(seconds=30)
    assert timedelta(seconds=28) < due_in(run, timers, "B") <= timedelta(seconds=30)
    assert timedelta(hours=1.9) < due_in(run, timers, "C") <= timedelta(hours=2)
    assert timedelta(hours=23.9) < due_in(run, timers, "D") <= timedelta(hours=24)


def test_several_keepers_that_see_a_step_answer_it_once(run: Engine, wall: Wall, watch: ClockWatch):
    begin(run, "A", A={"gate": {"timeout": "1d"}})
    other = ClockWatch(run.store, SETTINGS)
    other.look()
    for _ in range(2):  # as far, once more
        wall.set(-HOUR)
        for one in (watch, other):
            one.look()
            one.answer()
        wall.set(timedelta(seconds=30))
        for one in (watch, other):
            one.look()
            one.answer()

    assert timedelta(hours=23.9) < due_in(run, run.store.keys.timers, "A") <= timedelta(hours=24)
    assert run.store.redis.hget(run.store.keys.counters, "clock_steps") == "4"


def test_a_step_ahead_is_counted_and_moves_nothing(run: Engine, wall: Wall, watch: ClockWatch):
    begin(run, "A", A={"gate": {"timeout": "1d"}})
    wall.set(HOUR)
    watch.look()
    watch.answer()

    assert timedelta(hours=22.9) < due_in(run, run.store.keys.timers, "A") <= timedelta(hours=23)
    assert run.store.redis.hget(run.store.keys.counters, "clock_steps") == "1"


def test_after_a_step_back_a_message_that_was_lost_is_sent_again(run: Engine, wall: Wall):
    begin(run, "A")
    run.mail.clear()
    assert run.store.resend(run.run_id, timedelta(seconds=5), 10).sends == ()
    wall.set(-HOUR)

    assert [d.todo_id for d in run.store.resend(run.run_id, timedelta(seconds=5), 10).sends] == ["A"]
    assert run.store.resend(run.run_id, timedelta(seconds=5), 10).sends == ()


def test_after_a_step_back_a_dead_worker_does_not_look_alive(store: RunStore, wall: Wall, watch: ClockWatch):
    registry = WorkerRegistry(store.redis, store.keys)
    worker = Worker(id="coord-1@h1", host="h1", pid=1, version="1", repos=("r1",), jobs=1)
    registry.say(worker, store.now_ms(), SETTINGS.heartbeat)
    wall.set(-HOUR)
    watch.look()
    watch.answer()

    wall.set(4 * SETTINGS.heartbeat)
    assert registry.workers() == ()
