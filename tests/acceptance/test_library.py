"""coord as a library: the README's example as it stands there, events, steering, and figures of every room."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordination import Blocked, Conflict, Coord, Event, RunStatus, Selectors, TodoState, UsageError
from coordination.demo.create import create
from tests.stage import PLAN, Stage

README = Path(__file__).parents[2] / "README.md"
OF_LOCKS, OF_MESSAGES, OF_RUNS = re.findall(
    r"<!-- a test runs this -->\n```python\n(.*?)```", README.read_text(), re.DOTALL
)
LENAS = " {'repo': 'api', 'branch': 'coord/last'}\n"
TODOS = [
    {"id": "A", "repo": "api", "action": 'echo hello; echo 42 > "$COORD_OUTPUT"'},
    {"id": "B", "repo": "web", "action": "exit 3", "blocked_by": ["A"]},
    {"id": "look", "repo": "web", "action": {"type": "manual"}, "blocked_by": ["A"]},
]


@pytest.fixture
def coord(stage: Stage) -> Iterator[Coord]:
    stage.write(TODOS, plan={"on_failure": "continue"})
    with Coord(stage.file) as coord:
        yield coord


def carried_out(example: str, folder: Path) -> subprocess.CompletedProcess[str]:
    assert len(example.splitlines()) <= 12
    return subprocess.run([sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, timeout=60)


def test_the_example_of_the_readme_runs(stage: Stage) -> None:
    stage.write([{"id": "TODO-001", "repo": "units"}, {"id": "TODO-002", "repo": "cli", "blocked_by": ["TODO-001"]}])

    done = carried_out(OF_RUNS, stage.folder)

    assert done.returncode == 0, done.stderr
    assert "TODO-001 succeeded\nTODO-002 succeeded\n" in done.stdout
    assert stage.ok("show-todo", "TODO-002", "--json").json["status"] == "completed"


@pytest.mark.parametrize(("example", "printed"), [(OF_LOCKS, ""), (OF_MESSAGES, LENAS)])
def test_locks_and_messages_are_used_as_the_readme_shows(stage: Stage, example: str, printed: str) -> None:
    folder = stage.folder / "meter"
    create(folder)

    done = carried_out(example, folder)

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(printed)


def test_a_run_is_started_followed_and_steered(coord: Coord, caplog: pytest.LogCaptureFixture) -> None:
    settled: dict[str, str] = {}
    heard: list[str] = []

    def fail(event: Event) -> None:
        raise ValueError(event.name)

    def answer(event: Event) -> None:
        if event.todo == "look":
            coord.runs.complete("look")

    coord.on("run.started", fail)
    coord.on("todo.parked", answer)
    coord.on("todo.settled", lambda event: settled.update({event.todo: event.facts["state"]}))
    coord.on("*", lambda event: heard.append(event.name))

    with caplog.at_level(logging.CRITICAL, "coordination.api.events"):
        run = coord.runs.sweep(PLAN)
        ended = run.wait(timeout_s=60)

    assert ended.status is RunStatus.FAILED
    assert settled == {"A": "succeeded", "B": "failed", "look": "succeeded"}
    assert (heard[0], heard[-1]) == ("run.started", "run.ended")
    assert {"todo.started", "todo.settled"} < set(heard)
    assert [event.name for event in run.events()] == heard
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
    }
    assert stats["locks"] == {"held": 1, "waiting": 0}
    assert stats["resources"] == {}
    assert (stats["runs"]["live"], stats["runs"]["todos"]) == ({}, {})


def test_who_waits_for_an_event_that_there_is_not_is_told(coord: Coord) -> None:
    with pytest.raises(UsageError, match=r"no event 'todo.setled' \(did you mean 'todo.settled'\?\)"):
        coord.on("todo.setled", print)
    assert coord.planner.graph(PLAN).levels == (("A",), ("B", "look"))


def test_contexts_are_written_to_a_file_cleared_and_put_back(coord: Coord) -> None:
    file = coord.path.with_name("contexts.jsonl")
    context = coord.context()
    context.set("tag", "1.2")
    coord.context(plan=PLAN).set("base", {"image": "x"})

    assert coord.export_context(file) == 2
    assert context.clear() == 1
    assert context.get("tag") is None
    context.set("base", "newer")
    assert coord.import_context(file, keep=True) == 1  # the plan still has its own
    assert context.get("tag") == "1.2"
    with pytest.raises(UsageError):
        coord.import_context(coord.path)
