"""A rollback as scripts and agents ask for it, and what subscribers hear of it; the workers' part
is played.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from coordination import Conflict, Coord, NotFound, UsageError
from coordination.runs.store import RunStore
from tests.agent import Agent, agent_of
from tests.engine import BAD, OK, Engine
from tests.integration.conftest import submitted

FILE = """\
settings: {namespace: test}
repos: [{name: r1}, {name: r2}]
coordination:
  plans: [{id: PLAN-001, title: t}]
  todos:
    - {id: A, task: A, repo: r1, plan: PLAN-001, action: "true"}
    - {id: B, task: B, repo: r2, plan: PLAN-001}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ecosystem.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def coord(file: Path, redis_url: str) -> Iterator[Coord]:
    with Coord(file, redis_url) as made:
        yield made


@pytest.fixture
def ai(file: Path, redis_url: str) -> Iterator[Agent]:
    with agent_of(file, redis_url) as made:
        yield made


@pytest.fixture
def run(store: RunStore) -> Engine:
    """It has succeeded."""
    made = submitted(store, {"A": "r1", "B": ("r2", ["A"])})
    made.drain()
    return made


def work(run: Engine, failing: str = "") -> None:
    """Messages of others to the workers are sent again, and executed."""
    run.resend(timedelta(0), 100)
    run.drain(lambda grant: BAD if grant.todo_id == failing else OK)


def completed(file: Path) -> list[str]:
    todos = yaml.safe_load(file.read_text())["coordination"]["todos"]
    return [todo["id"] for todo in todos if todo.get("status") == "completed"]


def test_a_script_has_a_run_undone_hears_of_it_and_accepts_a_failed_compensation(coord: Coord, run: Engine):
    heard: list[tuple[str, str, str]] = []
    for event in ("run.*", "todo.settled", "todo.started", "todo.compensating"):
        coord.on(
            event, lambda e: heard.append((e.name, e.todo, e.facts.get("state") or e.facts.get("status", "")))
        )
    found = coord.runs.rollback(run.run_id)
    work(run, "B")

    assert found.wait(60).status == "rollback_failed"
    assert heard[-5:] == [
        ("run.ended", "", "succeeded"),
        ("run.rolling_back", "", ""),
        ("todo.compensating", "B", "compensating"),
        ("todo.settled", "B", "compensation_failed"),
        ("run.ended", "", "rollback_failed"),
    ]
    for todos, reason, error in (
        ("B", " ", UsageError),
        ("A", "why not", Conflict),
        (["B", "X"], "x", NotFound),
    ):
        with pytest.raises(error):
            found.accept(todos, reason)
    (asked,) = coord.live.asking()
    assert (asked.todo, asked.waits_for) == ("B", f"its compensation failed: coord rollback {run.run_id}")
    coord.runs.accept(run.run_id, "B", "it may stay")
    work(run)

    assert found.wait(60).status == "rolled_back"
    assert coord.runs.rollback(run.run_id).view().status == "rolled_back"


def test_a_preview_tells_a_script_what_a_rollback_undoes_and_cannot_undo(coord: Coord, store: RunStore):
    by_itself = {
        "B": {"workspace": "in-place"},
        "C": {"workspace": "in-place", "compensate": "undo it", "env": {"MY_TOKEN": "it"}},
    }
    run = submitted(store, {"A": "r1", "B": ("r2", ["A"]), "C": ("r1", ["B"])}, **by_itself)
    run.drain(lambda grant: BAD if grant.todo_id == "C" else replace(OK, tip=f"{grant.todo_id}-1", began="0"))

    found = coord.runs.get(run.run_id).rollback_preview()
    assert (found.todos, found.repos, found.helpless) == (("A", "B", "C"), ("r1", "r2"), ("B",))
    assert found.compensations == {"C": "undo ***"}

    coord.runs.rollback(run.run_id)
    assert (coord.live.todo("C").state, coord.runs.list()[0].counts["compensating"]) == ("compensating", 1)
    with pytest.raises(Conflict, match="is rolling_back and executes A") as refused:
        coord.runs.execute("A")
    assert "coord cancel" not in refused.value.hint
    work(run, "B")
    assert coord.runs.get(run.run_id).rollback_preview().todos == ("A", "B")
    with pytest.raises(NotFound):
        coord.runs.get("no-such-run").rollback_preview()


def test_an_agent_has_a_run_undone_and_accepts_a_failed_compensation(ai: Agent, run: Engine, file: Path):
    assert ai.call("coord_run_show", run=run.run_id, wait_s=10)["status"] == "succeeded"
    assert ai.call("coord_run_rollback", run=run.run_id)["status"] == "rolling_back"
    again = ai.call("coord_run_rollback", run=run.run_id)
    refused = ai.refused("coord_run_cancel", run=run.run_id)
    work(run, "B")
    stuck = ai.call("coord_run_show", run=run.run_id, states=["compensation_failed"], wait_s=10)
    no_reason = ai.refused("coord_run_rollback", run=run.run_id, accept=["B"])
    ai.call("coord_run_rollback", run=run.run_id, accept="B", reason="ann took it back")
    work(run)
    undone = ai.call("coord_run_show", run=run.run_id, wait_s=10)

    assert again["status"] == "rolling_back"
    assert "it is being rolled back, and cannot turn back" in refused
    assert (stuck["status"], [todo["id"] for todo in stuck["todos"]]) == ("rollback_failed", ["B"])
    assert "a reason is required" in no_reason
    assert undone["status"] == "rolled_back"
    assert [todo["accepted"] for todo in undone["todos"]] == [None, "ann took it back"]
    assert completed(file) == []
