"""Since when a repository of a change set waits: a time of a record, or none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from coordination.api import Asked, ChangeView, RunStatus, RunView, TodoState, TodoView
from coordination.changes.view import ChangeCheck
from coordination.dashboard.views.changes import row_of
from coordination.models import Todo

TODO = Todo.model_validate({"id": "T", "task": "t", "repo": "api"})
DONE = Todo.model_validate({"id": "T", "task": "t", "repo": "api", "status": "completed"})


def at(hour: int) -> str:
    return datetime(2026, 1, 31, hour, tzinfo=UTC).isoformat()


def run(name: str, end: int | None, state: TodoState = TodoState.SUCCEEDED, todo: str = "T") -> RunView:
    done = TodoView.model_construct(id=todo, state=state)
    status = {TodoState.SUCCEEDED: RunStatus.SUCCEEDED, TodoState.FAILED: RunStatus.FAILED}
    return RunView.model_construct(
        run_id=name,
        status=RunStatus.RUNNING if end is None else status[state],
        todos=[done],
        started_at=at(1),
        finished_at=None if end is None else at(end),
    )


def waits(reason: str, *checks: tuple[str, str]) -> ChangeView:
    made = tuple(ChangeCheck(name="qa", verdict=verdict, run=name) for verdict, name in checks)
    return ChangeView.model_construct(
        plan="P",
        repo="api",
        runs=("r1",),
        run="r1",
        checks=made,
        wait_reason=reason,
        landed=None,
        request=None,
    )


DEED = run("r1", 2)
FAILED = run("r1", 3, TodoState.FAILED)
ASKED = {"T": Asked(todo="T", run_id="r1", waits_for="an approval", since=at(4))}


@pytest.mark.parametrize(
    ("view", "runs", "declared", "more", "hour"),
    [
        (waits("run"), [run("r1", None)], [TODO], {}, 1),
        (waits("run"), [DEED], [DONE], {}, None),  # a landing, or a run that has moved nothing yet
        (waits("person"), [run("r1", None)], [TODO], {"asking": ASKED}, 4),
        (waits("person"), [run("r1", None)], [TODO], {}, None),
        (waits("todos"), [FAILED], [TODO], {}, 3),
        (waits("todos"), [run("r1", 2, todo="OTHER")], [TODO], {}, None),  # declared after the run
        (waits("checks", ("red", "r2")), [DEED], [DONE], {"checked": [run("r2", 5, todo="C")]}, 5),
        (waits("checks", ("red", "gone")), [DEED], [DONE], {}, None),
        (waits("order"), [DEED], [DONE], {}, 2),
        (waits("order", ("green", "r2")), [DEED], [DONE], {"checked": [run("r2", 5, todo="C")]}, 5),
        (waits("order"), [FAILED], [DONE], {}, None),  # a person has completed it later
        (waits("plan"), [DEED], [], {}, None),
    ],
)
def test_a_wait_began_at_a_recorded_time_or_has_none(
    view: ChangeView, runs: list[RunView], declared: list[Todo], more: dict[str, Any], hour: int | None
):
    row = row_of(view, runs, declared, **{"asking": {}, **more})

    assert row.since == (None if hour is None else datetime.fromisoformat(at(hour)))


@pytest.mark.parametrize(
    ("view", "runs", "declared", "label"),
    [
        (waits("todos"), [FAILED], [TODO], f"Retry {FAILED.run_id}"),
        (waits("todos"), [], [TODO], "Sweep P"),
        (waits("checks", ("red", "r2")), [DEED], [DONE], "Check P again"),
        (waits("order"), [DEED], [DONE], "Land P"),
    ],
)
def test_the_button_of_a_repository_names_the_plan_or_run_on_which_it_acts(
    view: ChangeView, runs: list[RunView], declared: list[Todo], label: str
):
    row = row_of(view, runs, declared, asking={})

    assert row.label == label
    assert set(row.fields.values()) < set(label.split())
