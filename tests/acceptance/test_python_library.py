"""coord as a library: events, steering, and figures of every part. The examples of the chapters run in
test_documentation.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordination import Blocked, Conflict, Coord, Event, RunStatus, Selectors, TodoState, UsageError
from tests.testbed import PLAN, Testbed

TODOS = [
    {"id": "A", "repo": "api", "action": 'echo hello; echo 42 > "$COORD_OUTPUT"'},
    {"id": "B", "repo": "web", "action": "exit 3", "blocked_by": ["A"]},
    {"id": "look", "repo": "web", "action": {"type": "manual"}, "blocked_by": ["A"]},
]


@pytest.fixture
def coord(testbed: Testbed) -> Iterator[Coord]:
    testbed.write(TODOS, plan={"on_failure": "continue"})
    with Coord(testbed.file) as coord:
        yield coord


def test_a_run_is_started_followed_and_steered(coord: Coord) -> None:
    settled: dict[str, str] = {}
    heard: list[str] = []

    def answer(event: Event) -> None:
        if event.todo == "look":
            coord.runs.complete("look")

    coord.on("todo.parked", answer)
    coord.on("todo.settled", lambda event: settled.update({event.todo: event.facts["state"]}))
    coord.on("*", lambda event: heard.append(event.name))

    run = coord.runs.sweep(PLAN)
    ended = run.wait(timeout_s=60)

    assert ended.status is RunStatus.FAILED
    assert settled == {"A": "succeeded", "B": "failed", "look": "succeeded"}
    assert {"todo.started", "todo.settled"} < set(heard)
    commands = [name for name in heard if name.startswith("command.")]
    assert commands == ["command.sweep", "command.complete"]
    assert [event.name for event in run.events()] == [name for name in heard if name not in commands]
    assert "".join(run.log("A")) == "hello\n"
    assert next(todo.output for todo in ended.todos if todo.id == "A") == 42
    assert coord.manager.get_todo("A").status == "completed"
    assert coord.runs.get("last").id == run.id
    with pytest.raises(Conflict):
        run.cancel()
    with pytest.raises(Blocked, match="PLAN-001"):
        coord.runs.sweep(PLAN, Selectors(todos=["A"]))


def test_a_run_is_cancelled_and_a_wait_has_a_limit(coord: Coord) -> None:
    run = coord.runs.sweep(PLAN, Selectors(todos=["A", "look"]))
    with pytest.raises(TimeoutError):
        run.wait(timeout_s=0)

    run.cancel()

    assert run.wait(timeout_s=60).status is RunStatus.CANCELLED
    assert run.view().counts[TodoState.CANCELLED]


def test_every_room_has_figures(coord: Coord) -> None:
    with coord.locks.acquire("mine"):
        stats = coord.stats()

    assert stats["manager"] == {
        "repos": 2,
        "issues": {},
        "plans": {"draft": 1},
        "todos": {"pending": 3},
        "dependencies": {},
        "templates": {},
        "services": {},
        "checks": {},
        "waves": {},
    }
    assert stats["locks"] == {"held": 1, "waiting": 0}
    assert stats["resources"] == {}
    assert (stats["runs"]["live"], stats["runs"]["todos"]) == ({}, {})


def test_waiting_for_an_unknown_event_is_refused(coord: Coord) -> None:
    with pytest.raises(UsageError, match=r"no event 'todo.setled' \(did you mean 'todo.settled'\?\)"):
        coord.on("todo.setled", print)
    assert coord.planner.graph(PLAN).levels == (("A",), ("B", "look"))
