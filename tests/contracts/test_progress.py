"""The progress of a run on a real Redis: percent, expected end, what runs, waits and comes next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest

from coordination.cli.following.live_progress import brief, progress_lines
from coordination.errors import Unreadable
from coordination.models import Strategy
from coordination.runs.records import RunStatus, WaitReason
from coordination.runs.views.progress_reader import ProgressReader, read_all
from coordination.runs.views.records import NoEta, Progress
from coordination.runs.views.run_view import RunReader
from coordination.runs.worker_registry import Worker, WorkerRegistry
from tests.engine import BAD, OK, Engine, retry_of

HOURS = {"A": {"estimated_hours": 1}, "B": {"estimated_hours": 2}, "C": {"estimated_hours": 1}}
TODOS = {"A": "api", "B": ("api", ["A"]), "C": ("web", ["A"])}


def serve(engine: Engine, jobs: int) -> None:
    """One worker, which serves all repositories."""
    repos = ("api", "web", "r1", "r2", "r3", "r4")
    worker = Worker(id="w", host="h1", pid=1, version="1", repos=repos, jobs=jobs)
    WorkerRegistry(engine.store.redis, engine.store.keys).say(worker, engine.now_ms(), timedelta(minutes=5))


@pytest.fixture(autouse=True)
def worker(run: Engine) -> None:
    serve(run, jobs=8)


def progress(engine: Engine) -> Progress:
    return ProgressReader(engine.store.redis, engine.store.keys, engine.run_id).read()


def in_list(engine: Engine, at_most: int | None = None) -> Progress:
    store = engine.store
    if at_most is not None:
        return ProgressReader(store.redis, store.keys, engine.run_id).read(at_most=at_most)
    runs = read_all(store.redis, store.keys, RunReader(store.redis, store.keys).list())
    found = next(run.progress for run in runs if run.run_id == engine.run_id)
    assert found is not None
    return found


def began(engine: Engine, todo: str, ago: timedelta) -> None:
    """Set the start of a running todo back."""
    at_ms = engine.now_ms() - round(ago.total_seconds() * 1000)
    engine.store.redis.hset(engine.store.keys.run(engine.run_id).facts, f"{todo} started_at", at_ms)


def left(found: Progress) -> timedelta:
    assert found.eta is not None
    assert found.at is not None
    return datetime.fromisoformat(found.eta) - datetime.fromisoformat(found.at)


def begin(engine: Engine, todos: Mapping[str, object] = TODOS, **more: object) -> None:
    engine.begin(todos, more={**HOURS, **more})  # type: ignore[arg-type]


def test_percent_and_end_follow_the_expected_durations(run: Engine):
    begin(run)

    before = progress(run)
    grant = run.take("A")
    began(run, "A", timedelta(minutes=30))
    half = progress(run)
    began(run, "A", timedelta(hours=1))
    run.settle(grant)
    after = progress(run)

    assert (before.percent, half.percent, after.percent) == (0.0, 12.5, 25.0)
    assert [left(found).total_seconds() / 3600 for found in (before, half, after)] == pytest.approx(
        [3, 2.5, 2], abs=0.01
    )
    assert [(todo.id, todo.expected_s, todo.worker, todo.attempt) for todo in half.running] == [
        ("A", 3600, "w", 1)
    ]
    assert [(todo.id, todo.after) for todo in half.next] == [("B", ("A",)), ("C", ("A",))]


def test_the_end_is_corrected_by_what_has_happened(run: Engine):
    """Estimates say hours, and the first todo takes 36 seconds: a hundredth."""
    begin(run)
    grant = run.take("A")
    began(run, "A", timedelta(seconds=36))
    run.settle(grant)

    found = progress(run)

    assert found.percent == 25.0, "the weights of the percentage never change"
    assert left(found) / timedelta(seconds=72) == pytest.approx(1, abs=0.05)


def test_an_attempt_that_is_lost_moves_nothing_that_has_ended(run: Engine):
    begin(run)
    run.settle(run.take("A"))
    run.take("B")
    began(run, "B", timedelta(hours=1))
    during = progress(run)
    run.lose("B")
    lost = progress(run)

    assert (during.percent, lost.percent) == (50.0, 25.0)


def test_two_readers_see_the_same_and_only_one_that_comes_later_sees_less(run: Engine):
    def reader() -> ProgressReader:
        return ProgressReader(run.store.redis, run.store.keys, run.run_id)

    begin(run)
    first, second = reader(), reader()
    run.settle(run.take("A"))
    assert first.read().percent == second.read().percent == 25.0
    run.take("B")
    began(run, "B", timedelta(hours=1))
    assert first.read().percent == 50.0  # the second does not look now
    run.lose("B")
    assert (first.read().percent, second.read().percent, reader().read().percent) == (50.0, 25.0, 25.0)
    run.take("B")
    began(run, "B", timedelta(hours=2))
    assert [one.read().percent for one in (first, second, reader())] == [72.5, 72.5, 72.5]
    run.roll_back()
    assert {one.read().percent for one in (first, second, reader())} == {0.0}


def test_the_end_of_a_large_run_is_at_least_what_is_shown(run: Engine, monkeypatch: pytest.MonkeyPatch):
    begin(run)
    exact = progress(run)
    for module in ("planner.remaining", "runs.views.progress"):
        monkeypatch.setattr(f"coordination.{module}.SIMULATED", 2)
    bound = progress(run)

    assert (exact.at_least, bound.at_least) == (False, True)
    assert exact.left_s is not None
    assert 0 < (bound.left_s or 0) <= exact.left_s
    assert "at least" in brief(bound)
    assert next(progress_lines(bound)).endswith("or later")


def test_a_run_that_has_ended_is_at_100_and_not_before(run: Engine):
    begin(run, {"A": "api"})
    grant = run.take("A")
    began(run, "A", timedelta(days=400))
    late = progress(run)
    assert late.percent == 95.0
    assert left(late) > timedelta(days=39), "it is overdue, and may take a tenth longer"

    run.settle(grant)
    done = progress(run)
    assert (done.percent, done.eta, done.no_eta) == (100.0, None, NoEta.ENDED)
    assert run.view().status is RunStatus.SUCCEEDED


def test_a_run_without_any_estimate_has_an_end_once_a_todo_has_ended(run: Engine):
    run.begin({"A": "api", "B": ("api", ["A"]), "C": ("api", ["B"])})
    unknown = progress(run)
    grant = run.take("A")
    began(run, "A", timedelta(seconds=30))
    run.settle(grant)
    known = progress(run)

    assert (unknown.percent, unknown.eta, unknown.left_s, unknown.no_eta) == (0.0, None, None, NoEta.UNKNOWN)
    assert known.percent == 33.3
    assert left(known).total_seconds() == pytest.approx(60, abs=2)


def test_a_pause_and_a_gate_leave_the_time_that_the_rest_takes(run: Engine):
    begin(run, C={"estimated_hours": 1, "gate": {}})
    ahead = progress(run)
    run.settle(run.take("A"))
    gate = progress(run)
    run.pause("ann")
    paused = progress(run)

    assert (ahead.approvals, ahead.no_eta) == (1, None)
    assert (gate.eta, gate.no_eta, gate.approvals) == (None, NoEta.PERSON, 0)
    assert gate.left_s is not None
    assert "coord approve C" in (gate.why_no_eta or "")
    assert [(wait.reason, wait.todos) for wait in gate.waiting if wait.reason is WaitReason.PERSON] == [
        (WaitReason.PERSON, ("C",))
    ]
    assert (paused.no_eta, paused.percent) == (NoEta.PAUSED, 25.0)


def test_a_rollback_counts_the_todos_that_are_undone(run: Engine):
    begin(run, {"A": "api", "B": ("api", ["A"])}, A={"compensate": "true"}, B={"compensate": "true"})
    run.drain()
    run.roll_back()
    back = progress(run)
    run.settle(run.take("B"))
    half = progress(run)
    run.drain()

    assert (back.percent, back.no_eta) == (0.0, NoEta.ROLLING_BACK)
    assert (half.percent, half.eta) == (50.0, None)
    assert progress(run).percent == 100.0


def test_a_retry_counts_only_what_it_does_again(run: Engine):
    begin(run, {"A": "api", "B": ("api", ["A"])})
    run.drain(lambda grant: BAD if grant.todo_id == "B" else OK)
    run.begin_again(retry_of(run.store, run.run_id, None, carried=lambda *_: frozenset()))

    assert progress(run).percent == 0.0
    assert left(progress(run)) / timedelta(hours=2) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_the_next_todos_are_named_by_urgency(run: Engine, strategy: Strategy):
    todos = {"A": "api", "LONG": ("api", ["A"]), "SHORT": ("web", ["A"]), "BESIDE": "web"}
    run.begin(
        todos,
        more={name: {"estimated_hours": n} for name, n in zip(todos, (1, 5, 1, 1), strict=True)},
        strategy=strategy,
    )
    run.take("A")
    run.take("BESIDE")

    found = progress(run)

    assert [todo.id for todo in found.next] == ["LONG", "SHORT"]
    assert found.next[0].after == (("A",) if strategy is Strategy.DATAFLOW else ("A", "BESIDE"))


def test_the_slots_of_the_workers_limit_the_rest(run: Engine):
    todos = {name: f"r{i}" for i, name in enumerate(("A", "B", "C", "D"), 1)}
    run.begin(todos, more={name: {"estimated_hours": 1} for name in todos})
    wide = left(progress(run))
    serve(run, jobs=2)

    assert left(progress(run)) / wide == pytest.approx(2, abs=0.01)


def test_a_list_tells_the_same_and_of_a_large_run_the_percentage(run: Engine):
    begin(run)
    run.settle(run.take("A"))

    whole, large = in_list(run), in_list(run, at_most=2)

    assert (whole.percent, large.percent) == (25.0, 25.0)
    assert whole.eta is not None
    assert (large.eta, large.no_eta) == (None, NoEta.LARGE)


@pytest.mark.parametrize(
    "rubbish", ["", "x", "-5 estimated", "9" * 40 + " estimated", "1 nonsense", "5 estimated\n"]
)
def test_rubbish_in_the_expectations_hides_no_run(run: Engine, rubbish: str):
    begin(run)
    redis, keys = run.store.redis, run.store.keys.run(run.run_id)
    redis.hset(keys.facts, "B expected", rubbish)
    redis.hset(keys.meta, mapping={"expected_ms": rubbish, "pace.e": "nan", "paced.e": rubbish})

    assert 0 <= progress(run).percent < 100
    redis.hdel(keys.meta, "expected_ms", "paced.e", "pace.e")
    run.drain()
    assert progress(run).percent == 100.0


def test_a_damaged_run_is_named_as_such(run: Engine):
    begin(run)
    run.store.redis.hset(run.store.keys.run(run.run_id).descriptor, "B", "rubbish")

    with pytest.raises(Unreadable):
        progress(run)
