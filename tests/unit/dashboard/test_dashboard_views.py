"""Views of the dashboard: waiting repositories, events, failed services and runs, logs of todos."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from coordination.api import Asked, ChangeView, HistoryEvent, RunStatus, RunView, TodoState, TodoView
from coordination.breakers.records import Breaker, BreakerState
from coordination.changes.view import ChangeCheck
from coordination.dashboard.views import runs
from coordination.dashboard.views.changes import row_of
from coordination.dashboard.views.history import details_of, subject_of
from coordination.dashboard.views.now import newest_by_plan
from coordination.health.facts import ServiceReport
from coordination.health.records import Health, HealthState, Kind, Subject
from coordination.models import Todo
from coordination.operations.doctor import Checkup, findings
from coordination.operations.machine_check import Machine

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


@pytest.mark.parametrize(
    ("fields", "subject", "details"),
    [
        (
            {"kind": "redis.restarted", "subject": "9f2c1e"},
            "Redis",
            "Redis was restarted while runs were live.",
        ),
        (
            {"kind": "level.opened", "subject": "run-1", "data": {"level": 0}},
            "run-1",
            "The todos of level 1 may start.",
        ),
        (
            {"kind": "level.settled", "subject": "run-1", "data": {"level": "<b>"}},
            "run-1",
            "All todos of a level have ended.",
        ),
        ({"kind": "todo.parked", "subject": "T-1", "title": "an approval"}, "T-1", "waits for an approval"),
        ({"kind": "breaker.opened", "subject": "repo:api", "title": "no {room}"}, "repo:api", "no {room}"),
    ],
)
def test_a_row_names_its_subject_and_says_what_happened(
    fields: dict[str, object], subject: str, details: str
):
    event = HistoryEvent.model_validate({"id": "1-0", "at": datetime(2026, 1, 31, tzinfo=UTC), **fields})

    assert (subject_of(event), details_of(event)) == (subject, details)


def service(name: str, state: str) -> ServiceReport:
    return ServiceReport(name=name, repo="api", host="here", state=state)


RECOVERY = Breaker(
    name="action:recover.service.db", state=BreakerState.OPEN, failures=5, threshold=5, window_s=300,
    why="no", failed_at=None, since=None, opened_at=None, probe_at=None, probe="", behind=0,
)  # fmt: skip


DOWN = Health(
    subject=Subject(kind=Kind.SERVICE, name="db", repo="api"),
    verdict=HealthState.FAILED, since=0.0, failed_at=0.0,
)  # fmt: skip
CRASH_LOOP = DOWN.model_copy(update={"verdict": HealthState.HEALTHY, "flapping": True})


@pytest.mark.parametrize("known", [DOWN, CRASH_LOOP, None])
def test_a_service_that_is_down_is_named_once(known: Health | None):
    machine = Machine(host="here", version="1", git="2")
    services = (service("db", "failed"), service("web", "degraded"), service("cache", "healthy"))
    facts = Checkup(
        machine=machine, health=(known,) if known else (), breakers=(RECOVERY,), services=services
    )

    found = findings(facts)

    assert [sum(f"service {name} " in one.what for one in found) for name in ("db", "web", "cache")] == [
        1,
        1,
        0,
    ]
    assert not any("action:recover.service.db" in one.what for one in found) or not known
    assert any("service db is flapping" in one.what for one in found) == (known is CRASH_LOOP)
    (web,) = (one for one in found if "service web" in one.what)
    assert web.hint.endswith("coord service logs web")


def test_the_newest_failed_run_of_each_plan_is_listed():
    runs = [RunView.model_construct(run_id=n, plan_id=plan) for n, plan in enumerate("abacb")]

    assert [(run.run_id, run.plan_id) for run in newest_by_plan(runs)] == [(0, "a"), (1, "b"), (3, "c")]


class Request:
    """A request whose answers stay shared until they are outdated by their keys."""

    def __init__(self) -> None:
        self.state, self.log, self._kept = TodoState.RUNNING, "begun\n", {}

    def get(self, name: str) -> str:
        return {"run": "R", "id": "T"}.get(name, "")

    def number(self, name: str, default: int = 0) -> int:
        return default

    async def read(self, key: Hashable, read: Callable[[Any], Any]) -> Any:
        if key == ("run", "R"):
            todo = SimpleNamespace(id="T", state=self.state)
            view = SimpleNamespace(run_id="R", todos=[todo])
            return SimpleNamespace(value=SimpleNamespace(view=view))
        if key not in self._kept:
            piece = SimpleNamespace(at=(1, 0), attempt=1, text=self.log)
            run = SimpleNamespace(log_pieces=lambda todo: [piece])
            coord = SimpleNamespace(runs=SimpleNamespace(get=lambda run_id: run))
            self._kept[key] = SimpleNamespace(value=read(coord))
        return self._kept[key]


def shown(request: Any) -> tuple[int, bool]:
    data = asyncio.run(runs.log(request)).data
    return data["part"].number - 1, data["next"] is not None


def test_a_log_is_followed_until_its_end_is_shown():
    request = Request()
    assert shown(request) == (1, True)

    request.state, request.log = TodoState.SUCCEEDED, "begun\ngone on\n"

    assert shown(request) == (2, False)
