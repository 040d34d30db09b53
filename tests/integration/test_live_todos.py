"""The todos of the file joined with live runs: the statuses that views show, the todos that are ready, and
the run, state, worker and wait of one todo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from coordination.ecosystem.document import load
from coordination.runs.maintenance.expiry import forget
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from coordination.runs.views.live import Live
from coordination.tracker.manager import CoordinationManager
from tests.engine import BAD, Engine
from tests.integration.conftest import submitted
from tests.plans import PLAN

TODOS = {"A": "r1", "B": ("r2", ["A"]), "C": "r3"}


class Views:
    """The views of a file with these todos, joined with the live runs of a store."""

    def __init__(self, folder: Path, store: RunStore) -> None:
        self.folder = folder
        self.live = Live(store.redis, store.keys)
        self.ecosystem_id = ""

    def manager(
        self, statuses: Mapping[str, str] = {}, plan: Mapping[str, Any] = {}, blockers: bool = True
    ) -> CoordinationManager:
        rows = {name: spec if isinstance(spec, tuple) else (spec, []) for name, spec in TODOS.items()}
        todos = [
            {
                "id": name,
                "task": f"do {name}",
                "repo": repo,
                "plan": PLAN,
                "status": statuses.get(name, "pending"),
            }
            | ({"blocked_by": after} if after and blockers else {})
            for name, (repo, after) in rows.items()
        ]
        plans = [{"id": PLAN, "title": "a plan", **plan}]
        text = yaml.safe_dump({"coordination": {"plans": plans, "todos": todos}})
        (self.folder / "ecosystem.yaml").write_text(text)
        document = load(self.folder / "ecosystem.yaml")
        return CoordinationManager(document, executing=lambda: self.live.todos.executing(self.ecosystem_id))

    def shown(self, **how: Any) -> dict[str, str]:
        """Return todo → its status, `ready` for pending ones that are ready."""
        manager = self.manager(**how)
        ready = {todo.id for todo in manager.get_ecosystem_status().ready}
        assert ready == {todo.id for r in ("r1", "r2", "r3") for todo in manager.get_repo_status(r).ready}
        return {todo.id: "ready" if todo.id in ready else str(todo.status) for todo in manager.list_todos()}

    def todo(self, name: str, **how: Any) -> dict[str, Any]:
        return dict(self.manager(**how).get_todo(name))


@pytest.fixture
def views(tmp_path: Path, store: RunStore) -> Views:
    return Views(tmp_path, store)


@pytest.fixture
def run(store: RunStore) -> Engine:
    return submitted(store, TODOS)


def takes_a(run: Engine) -> object:
    return run.take("A")


def settles_a(run: Engine) -> object:
    return run.settle(run.take("A"))


def fails_a(run: Engine) -> object:
    return run.settle(run.take("A"), BAD)


def undoes_c(run: Engine) -> object:
    fails_a(run)
    run.settle(run.take("C"))
    return run.roll_back()


def takes_a_todo_of_no_file(run: Engine) -> object:
    return submitted(run.store, {"GONE": "r1"}).take("GONE")


def nothing(_: Engine) -> None: ...


BUSY = {"A": "in_progress", "B": "pending", "C": "in_progress"}
RECURRING = {"statuses": {"A": "completed", "B": "completed"}, "plan": {"recurring": True}}
SHOWN: dict[str, tuple[Callable[[Engine], object], dict[str, Any], dict[str, str]]] = {
    "dispatched todos are in progress, and those behind them pending": (nothing, {}, BUSY),
    "so they are where the file knows no blockers": (nothing, {"blockers": False}, BUSY),
    "a running todo is in progress": (takes_a, {}, BUSY),
    "a todo that succeeded is completed": (settles_a, {}, {**BUSY, "A": "completed", "B": "in_progress"}),
    "also where the file says so": (
        settles_a,
        {"statuses": {"A": "completed"}},
        {**BUSY, "A": "completed", "B": "in_progress"},
    ),
    "after a run that nobody wrote back its todos are ready": (
        Engine.drain,
        {},
        {"A": "ready", "B": "pending", "C": "ready"},
    ),
    "a failed todo may be run again while the run goes on": (fails_a, {}, {**BUSY, "A": "ready"}),
    "a todo is completed or cancelled by the file": (
        takes_a,
        {"statuses": {"A": "completed", "C": "cancelled"}},
        {"A": "completed", "B": "pending", "C": "cancelled"},
    ),
    "a todo of a recurring plan is in progress although it is completed": (
        takes_a,
        RECURRING,
        {**BUSY, "B": "completed"},
    ),
    "until its run has done it": (settles_a, RECURRING, {**BUSY, "A": "completed", "B": "in_progress"}),
    "a todo that is being undone is in progress": (undoes_c, {}, BUSY),
    "a todo that is in no file changes nothing": (takes_a_todo_of_no_file, {}, BUSY),
}


@pytest.mark.parametrize(("act", "how", "shown"), SHOWN.values(), ids=SHOWN)
def test_in_views_of_the_file(
    run: Engine, views: Views, act: Callable[[Engine], object], how: dict[str, Any], shown: dict[str, str]
) -> None:
    act(run)

    assert views.shown(**how) == shown


def test_a_view_names_the_run_the_state_the_worker_and_the_wait(run: Engine, views: Views) -> None:
    run.take("A")
    shown, live = views.todo("A"), views.live.todos.newest("A")

    assert (shown["run_id"], shown["run_state"], shown["worker"]) == (run.run_id, "running", "w")
    assert "does not answer" in shown["run_waits_for"], "the test announces no worker"
    assert datetime.fromisoformat(shown["since"]).tzinfo
    assert live
    assert (live.run_id, live.run_status, live.state) == (run.run_id, "running", "running")
    assert (live.attempt, live.worker, live.since) == (1, "w", shown["since"])
    status = views.manager().get_ecosystem_status()
    assert [todo.id for todo in status.in_progress] == ["A", "C"]
    assert status.counts["todos"] == {"in_progress": 2, "pending": 1}
    blocked = views.manager(blockers=False).get_ecosystem_status().blocked
    assert [(one.todo.id, one.by, one.run_id) for one in blocked] == [("B", (), run.run_id)]
    run.lose("A")
    assert views.todo("A")["run_state"] == "dispatched"
    undoes_c(run)
    assert views.todo("C")["run_state"] == "compensating"


def test_the_reason_of_a_wait_is_shown(store: RunStore, views: Views) -> None:
    run = submitted(store, TODOS, A={"gate": {}})
    failed = Result(outcome=TodoState.FAILED, exit_code=1, error="no")
    store.retry(run.take("C"), timedelta(minutes=5), failed)

    assert views.shown() == BUSY
    parked, again = views.todo("A"), views.todo("C")
    assert (parked["run_state"], "approv" in parked["run_waits_for"]) == ("parked", True)
    assert (again["run_state"], bool(again["run_waits_for"])) == ("retrying", True)


def test_of_two_runs_the_one_that_executes_the_todo_counts_else_the_newer(run: Engine, views: Views) -> None:
    newer = submitted(run.store, {"A": "r1"})
    assert list(views.live.newest_runs()) == ["last", newer.run_id, run.run_id]
    assert views.live.newest_runs()["last"] == f"{newer.run_id}: PLAN-001, running"
    assert views.todo("A")["run_id"] == newer.run_id
    run.take("A")
    assert views.todo("A")["run_id"] == run.run_id

    run.settle(run.take("C"), BAD)
    run.lose("A", cap=0)
    newer.drain()

    a, c = views.live.todos.newest("A"), views.live.todos.newest("C")
    assert a
    assert c
    assert (a.run_id, a.state, c.run_id) == (newer.run_id, "succeeded", run.run_id)
    assert a.finished_at is not None
    assert views.live.todos.executing() == {}
    assert views.live.todos.newest("D") is None, "no run has it"


def test_runs_of_another_ecosystem_with_equal_ids_are_not_ours(run: Engine, views: Views) -> None:
    run.take("A")
    run.store.redis.set(run.store.keys.ecosystem, "eco-0123456789")

    views.ecosystem_id = "eco-9876543210"
    assert views.shown() == {"A": "ready", "B": "pending", "C": "ready"}
    assert views.live.todos.newest("A", views.ecosystem_id) is None
    views.ecosystem_id = "eco-0123456789"
    assert views.shown() == BUSY
    views.ecosystem_id = ""  # a file without an id: the namespace decides
    assert views.shown() == BUSY


def test_a_run_that_is_forgotten_meanwhile_hides_no_question_and_no_other_run(
    store: RunStore, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = submitted(store, {"A": "r1"}, A={"gate": {}})
    asks.drain()
    store.redis.zadd(store.keys.half_undone, {"20260101-000000-gone": 1})
    assert [(asked.todo, asked.run_id) for asked in views.live.todos.asking()] == [("A", asks.run_id)]

    older, newer = submitted(store, {"C": "r3"}), submitted(store, {"C": "r3"})
    todos = type(views.live.todos)
    look = todos._newest_with

    def forgotten(self: Any, *of: Any) -> str | None:
        found = look(self, *of)
        if found == newer.run_id:
            forget(store, found)
        return found

    monkeypatch.setattr(todos, "_newest_with", forgotten)
    found = views.live.todos.newest("C")
    assert found is not None
    assert found.run_id == older.run_id


def test_a_damaged_run_hides_no_other(run: Engine, views: Views) -> None:
    damaged, redis = submitted(run.store, {"C": "r3"}), run.store.redis
    redis.hset(run.store.keys.run(damaged.run_id).state, "C", "rubbish")
    run.take("A")
    redis.hset(run.store.keys.run(run.run_id).facts, "A since", "9" * 30)

    assert views.shown()["A"] == "in_progress"
    assert views.todo("A")["since"] is None
    redis.delete(run.store.keys.run(damaged.run_id).state)
    redis.set(run.store.keys.run(damaged.run_id).state, "of another type")
    assert views.shown()["A"] == "in_progress"
