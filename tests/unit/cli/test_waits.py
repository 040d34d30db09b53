"""Wait reasons of a run, and when they are printed again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from coordination.cli.following.summary import (
    Reminders,
    Wait,
    format_counts,
    format_wait,
    still_running,
    waits,
)
from coordination.cli.times import how_long
from coordination.runs.records import RunStatus, TodoState, WaitReason
from coordination.runs.views.records import RunView, TodoView

SLOT = WaitReason.SLOT
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def todo(name: str, state: TodoState, waits_for: str | None = None, *, since_s: int = 0) -> TodoView:
    since = (NOON + timedelta(seconds=since_s)).isoformat()
    reason = (
        None if waits_for is None else SLOT if waits_for == "a worker that is free" else WaitReason.WORKER
    )
    return TodoView(
        id=name, repo="api", state=state, attempt=1, waits_for=waits_for, wait_reason=reason, since=since
    )


def run(*todos: TodoView, status: RunStatus = RunStatus.RUNNING) -> RunView:
    times = {"started_at": None, "finished_at": None, "duration_s": None, "bound_s": None}
    told = {
        "run_id": "R",
        "plan_id": "P",
        "strategy": "levels",
        "on_failure": "halt",
        "actor": "me",
        "counts": {},
    }
    return RunView.model_validate({**told, **times, "status": status, "todos": todos})


def test_todos_that_wait_for_the_same_are_one_wait_the_longest_first() -> None:
    found = waits(
        run(
            todo("A", TodoState.PARKED, "its turn", since_s=9),
            todo("B", TodoState.PARKED, "a person", since_s=7),
            todo("C", TodoState.PARKED, "its turn", since_s=5),
            todo("D", TodoState.WAITING),
        )
    )

    assert [wait.text for wait in found] == [
        "2 todos queued: other todos of their repository run",
        "B waits for a person",
    ]
    assert found[0].since == NOON + timedelta(seconds=5)


def test_todos_behind_the_limit_of_the_run_name_that() -> None:
    queued = [todo(name, TodoState.PARKED, "its turn") for name in "ABC"]
    full = run(*queued).model_copy(update={"counts": {"running": 3}})

    assert [wait.text for wait in waits(full, jobs=3)] == ["3 todos queued: --jobs 3 reached"]
    assert [wait.text for wait in waits(full, jobs=4)] == [
        "3 todos queued: other todos of their repository run"
    ]


def test_that_others_wait_for_a_free_worker_is_no_news_while_something_goes_on() -> None:
    free = todo("A", TodoState.DISPATCHED, "a worker that is free")
    unserved = todo("B", TodoState.DISPATCHED, "a worker for api: none serves it")

    assert [w.text for w in waits(run(free))] == ["A waits for a worker that is free"]
    (told,) = waits(run(free, unserved, todo("C", TodoState.RUNNING)))
    assert told.text.startswith(
        "B waits for a worker for api: none serves it\n  coord worker --repo api=PATH"
    )


def test_what_runs_with_nobody_waits() -> None:
    gone = todo("A", TodoState.RUNNING, "coord-7@ann, which is not heard of")
    free = todo("B", TodoState.DISPATCHED, "a worker that is free")

    assert [wait.why for wait in waits(run(free, gone))] == [gone.waits_for, free.waits_for]


def test_of_a_paused_run_only_that_is_said() -> None:
    found = waits(run(todo("A", TodoState.PARKED, "its turn"), status=RunStatus.PAUSED))

    assert [wait.text for wait in found] == ["the run is paused: coord resume R"]


def test_a_wait_is_said_when_it_is_new_and_again_at_growing_intervals() -> None:
    reminders, wait = Reminders(), Wait(why="x", text="A waits for x", since=NOON)

    said = [s for s in range(0, 1000, 5) if reminders.due([wait], NOON + timedelta(seconds=s))]

    assert said == [0, 30, 60, 120, 240, 480, 960]


def test_a_wait_that_was_over_is_new_when_it_comes_again() -> None:
    reminders, wait = Reminders(), Wait(why="x", text="A waits for x")

    assert reminders.due([wait], NOON)
    assert not reminders.due([wait], NOON + timedelta(seconds=1))
    assert not reminders.due([], NOON + timedelta(seconds=2))
    assert reminders.due([wait], NOON + timedelta(seconds=3))


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (4, "4 s"), (119, "119 s"), (300, "5 min"), (7500, "2 h 5 min")]
)
def test_how_long_is_told_as_a_person_would(seconds: int, words: str) -> None:
    assert how_long(timedelta(seconds=seconds)) == words


def test_a_wait_that_has_just_begun_has_no_duration() -> None:
    wait = Wait(why="x", text="A waits for x", since=NOON)

    assert format_wait(wait, NOON) == "· A waits for x"
    assert format_wait(wait, NOON + timedelta(seconds=4)) == "· A waits for x (4 s)"


def test_what_runs_is_told_the_longest_first_and_not_for_ever() -> None:
    under_way = [
        todo(f"T{n}", TodoState.RUNNING).model_copy(update={"duration_s": 30.0 + 60 * n}) for n in range(10)
    ]

    words = still_running(run(*under_way, todo("W", TodoState.WAITING)))

    assert words.startswith("· running: T9 (9 min), T8 (8 min)")
    assert words.endswith("T2 (2 min) and 2 more")
    assert still_running(run(todo("W", TodoState.WAITING))) == ""


def test_parked_todos_that_wait_for_a_person_are_counted_apart() -> None:
    asking = todo("A", TodoState.PARKED, "an approval").model_copy(update={"wait_reason": WaitReason.PERSON})
    other = todo("B", TodoState.PARKED, "its turn").model_copy(update={"wait_reason": WaitReason.REPOSITORY})

    def counts(*todos: TodoView, **numbers: int) -> str:
        return format_counts(run(*todos).model_copy(update={"counts": numbers}))

    assert counts(asking, parked=1) == "1 waiting for approval"
    assert counts(asking, other, succeeded=2, parked=2) == "2 succeeded, 1 parked, 1 waiting for approval"
    assert counts(parked=1) == "1 parked"
