"""Circuit breakers in runs: which failures count, which todos wait, and which one probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import Step
from coordination.backend.steps.breaker import Allow, Record, Reset
from coordination.models import OnFailure, Strategy
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.engine import BAD, OK, Engine, OneOfSeveral
from tests.plans import ecosystem, graph, order

R = TypeVar("R")
SETTINGS = Settings(
    breaker_failures=2, breaker_window=timedelta(seconds=300), breaker_open=timedelta(seconds=60)
)
DB, REPO = "resource:db", "repo:r"
ON_DB = {"resources": ["db"]}
TWO = {"resources": ["db", "gpu"]}
NO_WORKSPACE = Result(outcome=TodoState.FAILED, error="no space left on device", blame="worker")
CANCELLED = Result(outcome=TodoState.CANCELLED)
AT_ONCE, LATER = timedelta(0), timedelta(minutes=9)


@pytest.fixture
def runs(store: RunStore) -> Callable[..., Engine]:
    """Several with one todo `A` in `r` each, unless told otherwise."""
    known: dict[str, OneOfSeveral] = {}

    def begin(
        todos=None, needs=None, *, settings=SETTINGS, capacity=9, file=lambda eco: eco, **how
    ) -> Engine:
        todos = todos or {"A": "r"}
        more = {"capacities": {"db": capacity, "gpu": 1}, "slots": 9, **(needs or {})}
        run = OneOfSeveral(store, known)
        run.submit(graph(todos, **more), file(ecosystem(todos, **more)), order(**how), settings)
        return run

    return begin


def breaker(store: RunStore, name: str = DB) -> dict[str, str]:
    state = store.redis.hget(store.keys.breakers.all, name)
    return {"state": state or "closed", **store.redis.hgetall(store.keys.breakers.of(name))}


def at(ms: str | int) -> str:
    return f"{datetime.fromtimestamp(int(ms) / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def trip(runs, store: RunStore, result: Result = BAD, needs=ON_DB, name: str = DB, repo: str = "r") -> None:
    while breaker(store, name)["state"] != "open":
        run = runs({"A": repo}, {"A": needs})
        run.settle(run.take("A"), result)


def is_due(store: RunStore, name: str = DB) -> None:
    """The time for which it is open is over, and so is that of those who wait for it."""
    store.redis.hset(store.keys.breakers.of(name), "until", store.now_ms() - 1)
    for member in store.redis.zrange(store.keys.timers, 0, -1):
        store.redis.zadd(store.keys.timers, {member: 0})


def left(store: RunStore) -> list[str]:
    return sorted(key for key in store.redis.keys("test:breaker*"))


def held(store: RunStore) -> list[str]:
    """Return the held and queued locks, slots and resources."""
    return [key for part in ("shares", "queue", "request") for key in store.redis.keys(f"test:lock-{part}:*")]


def test_a_todo_behind_an_open_breaker_is_parked_and_holds_nothing(runs, store: RunStore):
    first = runs(needs={"A": ON_DB})
    first.settle(first.take("A"), replace(BAD, error="exit code 7"))
    second = runs({"TODO-3": "r"}, {"TODO-3": ON_DB})
    second.retry(second.take("TODO-3"), LATER, replace(BAD, error="exit code 7"))
    assert breaker(store)["state"] == "open"

    run = runs({"A": "r", "B": "r", "C": ("s", ["A"])}, {"A": ON_DB})
    assert run.next() is None

    until = breaker(store)["until"]
    assert (
        run.waits_for("A")
        == "resource db: its circuit breaker is open after 2 failures in 300 s, last: TODO-3 exit code 7;"
        f" probe at {at(until)}"
    )
    assert store.redis.zscore(store.keys.timers, f"{run.run_id} A") == int(until)
    assert held(store) == []
    assert run.drain() == ["B"], "the repository is kept for nobody"
    assert run.states() == {"A": "parked", "B": "succeeded", "C": "waiting"}
    assert store.redis.hget(store.keys.run(run.run_id).meta, "active") == "0"


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_one_todo_probes_and_its_success_wakes_the_others(runs, store, strategy: Strategy):
    trip(runs, store)
    waiting = [runs({"A": "r", "B": ("s", ["A"])}, {"A": ON_DB}, strategy=strategy) for _ in range(3)]
    assert [run.next() for run in waiting] == [None] * 3
    is_due(store)
    waiting[0].tick()

    grants = [run.next() for run in waiting]

    (probe,) = [grant for grant in grants if grant]
    others = [run for run in waiting if run.run_id != probe.run_id]
    words = f"resource db: its circuit breaker is half-open, and A of run {probe.run_id} probes it"
    assert [run.waits_for("A") for run in others] == [words] * 2
    assert not any(run.mail for run in waiting)

    prober = next(run for run in waiting if run.run_id == probe.run_id)
    reply = store.settle(probe, OK)
    assert {run for run, _ in reply.wakes} == {run.run_id for run in others}
    prober.follow(reply)
    prober.join()
    assert left(store) == []
    for run in waiting:
        run.drain()
    assert {run.view().status for run in waiting} == {"succeeded"}
    assert held(store) == []


def test_the_probes_failure_opens_it_again_and_tells_the_others_when(runs, store: RunStore):
    trip(runs, store)
    one, two = runs(needs={"A": ON_DB}), runs(needs={"A": ON_DB})
    assert [one.next(), two.next()] == [None, None]
    is_due(store)
    one.tick()
    probe = one.take("A")
    assert two.next() is None

    one.settle(probe, replace(BAD, error="exit code 9"))

    now = breaker(store)
    assert (now["state"], "probe" in now) == ("open", False)
    assert two.waits_for("A").endswith(f"last: A exit code 9; probe at {at(now['until'])}")
    assert not two.mail, "no message was needed for it"
    assert store.redis.zscore(store.keys.timers, f"{two.run_id} A") == int(now["until"])


@pytest.mark.parametrize("way", ["handed back", "parked", "cancelled", "of the worker's"])
def test_an_attempt_without_a_verdict_leaves_the_probe_to_the_next(runs, store: RunStore, way: str):
    trip(runs, store)
    one, two = runs({"A": "q"}, needs={"A": ON_DB}), runs(needs={"A": ON_DB})
    assert [one.next(), two.next()] == [None, None]
    is_due(store)
    one.tick()
    probe = one.take("A")
    assert two.next() is None
    ways = {
        "handed back": lambda: store.hand_back(probe),
        "parked": lambda: store.park(probe, "somebody is in the workspace", timedelta(seconds=5)),
        "cancelled": lambda: store.settle(probe, CANCELLED),
        "of the worker's": lambda: store.retry(probe, LATER, NO_WORKSPACE),
    }

    one.follow(ways[way]())

    assert "probe" not in breaker(store)
    two.settle(two.take("A"))
    assert breaker(store)["state"] == "closed"


@pytest.mark.parametrize("kind", ["no workspace", "lost"])
def test_the_breaker_of_a_repository_opens_for_failures_of_workers(runs, store: RunStore, kind: str):
    for _ in range(2):
        run = runs()
        grant = run.take("A")
        word = run.settle(grant, NO_WORKSPACE) if kind == "no workspace" else run.lose("A", 9)
        assert word == ("settled" if kind == "no workspace" else "requeued")

    run = runs({"B": "r"})
    assert run.next() is None
    why = "A no space left on device" if kind == "no workspace" else "A lost its worker w"
    assert run.waits_for("B").startswith(
        f"repository r: its circuit breaker is open after 2 failures in 300 s, last: {why}; probe at 20"
    )
    assert runs({"C": "s"}).next() is not None
    assert breaker(store)["state"] == "closed"


def test_a_todos_own_failure_closes_the_breaker_of_its_repository(runs, store: RunStore):
    for _ in range(4):
        run = runs()
        run.settle(run.take("A"), BAD)
    assert left(store) == []

    trip(runs, store, NO_WORKSPACE, needs={}, name=REPO)
    is_due(store, REPO)
    run = runs()
    probe = run.take("A")
    assert breaker(store, REPO)["probe"] == f"{run.run_id} A"
    run.settle(probe, BAD)
    assert left(store) == []


def test_two_breakers_are_probed_together_and_a_lost_worker_blames_one(runs, store: RunStore):
    trip(runs, store, NO_WORKSPACE, name=REPO)
    trip(runs, store, repo="s")
    is_due(store)
    run = runs(needs={"A": ON_DB})
    assert run.next() is None
    assert run.waits_for("A").startswith("repository r: ")
    assert "probe" not in breaker(store), "where one is open, no other is probed"
    is_due(store, REPO)
    run.tick()
    run.take("A")
    assert {breaker(store, name)["probe"] for name in (REPO, DB)} == {f"{run.run_id} A"}

    run.lose("A", 9)

    assert breaker(store, REPO)["state"] == "open"
    assert (breaker(store)["state"], "probe" in breaker(store)) == ("half-open", False)
    is_due(store, REPO)
    run.tick()
    run.settle(run.take("A"))
    assert left(store) == []


def test_a_todo_that_waits_for_a_lock_takes_no_probe(runs, store):
    holder = runs({"A": "q"}, {"A": ON_DB}, capacity=1)
    grant = holder.take("A")
    trip_by_script(store)
    is_due(store)
    run = runs(needs={"A": ON_DB}, capacity=1)
    assert run.next() is None
    assert "probe" not in breaker(store)
    assert run.waits_for("A").startswith("resource db (1 of 1 in use by")

    script(store, Allow(breaker=DB, who="script", by="a script", ttl_ms=60_000, host="", pid=0, started=""))
    assert script(store, failure("script")) == "open"
    holder.settle(grant, CANCELLED)  # hands the resource to A

    assert run.waits_for("A").startswith("resource db: its circuit breaker is open")
    assert held(store) == []


def test_a_probe_lasts_as_long_as_its_lease_and_then_its_word_no_longer_counts(runs, store: RunStore):
    trip(runs, store)
    one, two = runs({"A": "q"}, needs={"A": ON_DB}), runs(needs={"A": ON_DB})
    is_due(store)
    frozen = one.take("A")
    assert two.next() is None
    store.renew({f"{one.run_id} A": frozen.fence}, timedelta(hours=1))
    is_due(store)
    two.tick()
    assert not two.mail, "it asks without a message"
    ends = store.redis.zscore(store.keys.leases, f"{one.run_id} A")
    assert store.redis.zscore(store.keys.timers, f"{two.run_id} A") == ends

    store.redis.zadd(store.keys.leases, {f"{one.run_id} A": store.now_ms() - 1})
    is_due(store)
    two.tick()
    taken_over = two.take("A")
    assert breaker(store)["probe"] == f"{two.run_id} A"
    one.settle(frozen, BAD)
    assert (breaker(store)["state"], breaker(store)["probe"]) == ("half-open", f"{two.run_id} A")
    two.settle(taken_over)
    assert left(store) == []


def test_a_todo_that_was_woken_keeps_its_next_timer(runs, store: RunStore):
    trip(runs, store)
    run = runs(needs={"A": ON_DB})
    assert run.next() is None
    is_due(store)
    run.tick()
    probe = run.take("A")
    assert store.redis.exists(store.keys.breakers.behind(DB)) == 0

    run.retry(probe, LATER, NO_WORKSPACE)
    trip_again = runs({"X": "s"}, {"X": ON_DB})
    trip_again.settle(trip_again.take("X"))

    assert breaker(store)["state"] == "closed"
    assert store.redis.zscore(store.keys.timers, f"{run.run_id} A") > store.now_ms() + 60_000


def test_breakers_can_be_off_for_a_resource_or_for_all(runs, store: RunStore):
    def unbroken(eco):
        return eco.model_copy(
            update={"resources": tuple(r.model_copy(update={"breaker": False}) for r in eco.resources)}
        )

    for _ in range(4):
        run = runs(needs={"A": ON_DB}, file=unbroken)
        run.settle(run.take("A"), BAD)
    never = Settings(breaker_failures=0)
    for result in (BAD, NO_WORKSPACE, BAD, NO_WORKSPACE):
        run = runs(needs={"A": ON_DB}, settings=never)
        run.settle(run.take("A"), result)
    assert left(store) == []

    trip(runs, store)
    assert runs(needs={"A": ON_DB}, file=unbroken).next() is not None
    assert runs(needs={"A": ON_DB}, settings=never).next() is not None


def test_a_reset_wakes_who_stands_behind_unless_its_run_was_cancelled_or_paused(runs, store: RunStore):
    trip(runs, store)
    gone, paused, waiting = (runs(needs={"A": ON_DB}) for _ in range(3))
    assert [run.next() for run in (gone, paused, waiting)] == [None] * 3
    gone.cancel("ann")
    paused.pause("ann")
    assert gone.states() == {"A": "cancelled"}

    assert script(store, Reset(breaker=DB, actor="ann")) == "open"
    waiting.tick()
    assert waiting.drain() == ["A"]
    assert left(store) == ["test:breaker-resets"]
    assert gone.states() == {"A": "cancelled"}
    assert not paused.mail
    paused.resume("ann")
    assert paused.drain() == ["A"]


def test_compensations_ask_breakers_and_count(runs, store: RunStore):
    run = runs({"A": "r", "B": ("s", ["A"])}, {"A": ON_DB}, on_failure=OnFailure.ROLLBACK)
    run.drain()
    trip(runs, store)
    run.follow(store.rollback(run.run_id, "ann", "she asked"))
    run.settle(run.take("B"))
    assert run.next() is None
    assert run.waits_for("A").startswith("resource db: its circuit breaker is open")
    is_due(store)
    run.tick()

    run.settle(run.take("A"), BAD)

    assert breaker(store)["state"] == "open"
    assert run.view().status == "rollback_failed"


def script(store: RunStore, step: Step[R]) -> R:
    """Call a step of breakers, as a script's manager does."""
    return StepCaller(store.redis)(step, [store.keys.breakers.head])


def failure(who: str) -> Record:
    return Record(
        breaker=DB, who=who, outcome="failed", why="no", failures=2, window_ms=300_000, open_ms=60_000
    )


def trip_by_script(store: RunStore) -> None:
    for n in range(2):
        script(store, failure(f"call {n}"))
