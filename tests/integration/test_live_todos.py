"""The todos of the file joined with live runs: which status a view shows, and which todos are ready."""

from __future__ import annotations

from collections.abc import Mapping
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
from tests.contracts.run_harness import BAD, Harness
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
        return CoordinationManager(document, executing=lambda: self.live.executing(self.ecosystem_id))

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
def run(store: RunStore) -> Harness:
    return submitted(store, TODOS)


def test_a_running_todo_is_in_progress_with_run_worker_and_time(run: Harness, views: Views) -> None:
    run.take("A")

    assert views.shown() == {"A": "in_progress", "B": "pending", "C": "in_progress"}
    shown = views.todo("A")
    assert (shown["run_id"], shown["run_state"], shown["worker"]) == (run.run_id, "running", "w")
    assert datetime.fromisoformat(shown["since"]).tzinfo
    assert views.todo("C")["run_state"] == "dispatched"
    status = views.manager().get_ecosystem_status()
    assert [todo.id for todo in status.in_progress] == ["A", "C"]
    assert status.counts["todos"] == {"in_progress": 2, "pending": 1}


def test_a_todo_whose_worker_died_is_in_progress_and_says_so(run: Harness, views: Views) -> None:
    run.take("A")  # the harness announces no worker

    assert "does not answer" in views.todo("A")["run_waits_for"]
    run.lose("A")
    assert views.shown()["A"] == "in_progress"
    assert views.todo("A")["run_state"] == "dispatched"


def test_a_todo_that_waits_its_turn_in_a_run_is_not_ready(run: Harness, views: Views) -> None:
    """Also where the file, unlike the run, knows nothing that it waits for."""
    assert views.shown(blockers=False)["B"] == "pending"
    blocked = views.manager(blockers=False).get_ecosystem_status().blocked
    assert [(one.todo.id, one.by, one.run_id) for one in blocked] == [("B", (), run.run_id)]


def test_a_todo_that_succeeded_is_in_progress_until_the_file_says_completed(
    run: Harness, views: Views
) -> None:
    run.settle(run.take("A"))

    assert views.shown()["A"] == "in_progress"
    assert views.shown(statuses={"A": "completed"})["A"] == "completed"
    run.drain()
    assert views.shown() == {"A": "ready", "B": "pending", "C": "ready"}  # nobody has written it back


def test_a_failed_todo_may_be_run_again_while_the_run_goes_on(run: Harness, views: Views) -> None:
    run.settle(run.take("A"), BAD)

    assert views.shown() == {"A": "ready", "B": "pending", "C": "in_progress"}


def test_what_a_todo_waits_for_in_its_run_is_shown(store: RunStore, views: Views) -> None:
    run = submitted(store, TODOS, A={"gate": {}})
    retried = run.take("C")
    store.retry(retried, timedelta(minutes=5), Result(outcome=TodoState.FAILED, exit_code=1, error="no"))

    assert views.shown() == {"A": "in_progress", "B": "pending", "C": "in_progress"}
    parked, again = views.todo("A"), views.todo("C")
    assert (parked["run_state"], "approv" in parked["run_waits_for"]) == ("parked", True)
    assert (again["run_state"], bool(again["run_waits_for"])) == ("retrying", True)


def test_the_run_that_executes_the_todo_counts_before_another_one(store: RunStore, views: Views) -> None:
    older, newer = submitted(store, TODOS), submitted(store, TODOS)
    assert views.todo("A")["run_id"] == newer.run_id

    older.take("A")

    assert views.todo("A")["run_id"] == older.run_id


def test_what_is_completed_or_cancelled_in_the_file_stays_so(run: Harness, views: Views) -> None:
    run.take("A")

    assert views.shown(statuses={"A": "completed", "C": "cancelled"}) == {
        "A": "completed",
        "B": "pending",
        "C": "cancelled",
    }


def test_a_recurring_plan_is_in_progress_although_its_todos_are_completed(run: Harness, views: Views) -> None:
    grant = run.take("A")
    recurring = {"statuses": {"A": "completed", "B": "completed"}, "plan": {"recurring": True}}

    assert views.shown(**recurring)["A"] == "in_progress"
    run.settle(grant)
    assert views.shown(**recurring)["A"] == "completed"


def test_runs_of_another_ecosystem_with_equal_ids_are_not_ours(run: Harness, views: Views) -> None:
    run.take("A")
    run.store.redis.set(run.store.keys.ecosystem, "eco-0123456789")
    ours = {"A": "in_progress", "B": "pending", "C": "in_progress"}

    views.ecosystem_id = "eco-9876543210"
    assert views.shown() == {"A": "ready", "B": "pending", "C": "ready"}
    assert views.live.todo("A", views.ecosystem_id) is None
    views.ecosystem_id = "eco-0123456789"
    assert views.shown() == ours
    views.ecosystem_id = ""  # a file without an id: the namespace decides
    assert views.shown() == ours


def test_a_todo_that_is_being_undone_is_not_ready_before_that_is_over(run: Harness, views: Views) -> None:
    run.settle(run.take("A"), BAD)
    first = run.take("C")
    run.settle(first)
    run.roll_back()

    assert views.shown() == {"A": "in_progress", "B": "pending", "C": "in_progress"}
    assert views.todo("C")["run_state"] == "compensating"


def test_a_run_that_is_forgotten_meanwhile_hides_no_question_and_no_other_run(
    store: RunStore, views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = submitted(store, {"A": "r1"}, A={"gate": {}})
    asks.drain()
    store.redis.zadd(store.keys.half_undone, {"20260101-000000-gone": 1})
    assert [(asked.todo, asked.run_id) for asked in views.live.asking()] == [("A", asks.run_id)]

    older, newer = submitted(store, {"C": "r3"}), submitted(store, {"C": "r3"})
    look = Live._newest_with

    def forgotten(self: Live, *of: Any) -> str | None:
        found = look(self, *of)
        if found == newer.run_id:
            forget(store, found)
        return found

    monkeypatch.setattr(Live, "_newest_with", forgotten)
    found = views.live.todo("C")
    assert found is not None
    assert found.run_id == older.run_id


def test_what_is_no_longer_in_the_file_disturbs_no_view(run: Harness, views: Views) -> None:
    gone = submitted(run.store, {"GONE": "r1"})
    gone.take("GONE")

    assert views.shown() == {"A": "in_progress", "B": "pending", "C": "in_progress"}


def test_a_damaged_run_hides_no_other(run: Harness, views: Views) -> None:
    damaged, redis = submitted(run.store, {"C": "r3"}), run.store.redis
    redis.hset(run.store.keys.run(damaged.run_id).state, "C", "rubbish")
    run.take("A")
    redis.hset(run.store.keys.run(run.run_id).facts, "A since", "9" * 30)

    assert views.shown()["A"] == "in_progress"
    assert views.todo("A")["since"] is None
    redis.delete(run.store.keys.run(damaged.run_id).state)
    redis.set(run.store.keys.run(damaged.run_id).state, "of another type")
    assert views.shown()["A"] == "in_progress"
