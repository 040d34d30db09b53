"""A rollback as scripts ask for it, and what subscribers hear of it; the workers' part is played."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coordination import Conflict, Coord, NotFound, UsageError
from coordination.runs.store import RunStore
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
def coord(tmp_path: Path, redis_url: str) -> Iterator[Coord]:
    file = tmp_path / "ecosystem.yaml"
    file.write_text(FILE)
    with Coord(file, redis_url) as made:
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
    coord.runs.rollback(run.run_id, accept=("B",), reason="it may stay")
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
