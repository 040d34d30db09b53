"""Somebody owns Redis: a worker that requires signatures writes only what was done and signed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from coordination.ecosystem.document import load
from coordination.models import Verdict
from coordination.runs import approvals
from coordination.runs.filings import FAILURE, file_id
from coordination.runs.views.run_view import RunReader
from tests.integration.test_orders import connected, site
from tests.plans import PLAN
from tests.trusted import Trusting
from workers.results_writer import GRACE_MS, ResultsWriter

__all__ = ["site"]
TODOS = {"A": "r1", "HAND": ("r1", ["A"]), "B": ("r2", ["HAND"])}
HAND = {"HAND": {"action": {"type": "manual"}}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    todos = [{"id": name, "task": "t", "repo": "r", "plan": PLAN} for name in TODOS]
    path = tmp_path / "ecosystem.yaml"
    path.write_text(
        yaml.safe_dump({"coordination": {"plans": [{"id": PLAN, "title": "a plan"}], "todos": todos}})
    )
    return path


def written(site: Trusting, file: Path) -> set[str]:
    """The todos that are completed in the file after a worker wrote the results of the run there."""
    listed = site.store.keys.unwritten(file_id(file))
    site.redis.zadd(listed, {site.run_id: site.store.now_ms() - 2 * GRACE_MS})
    ResultsWriter(site.store, file, site.worker.order_check.confirm_outcome).run_once()
    assert not site.redis.exists(listed), "a result that is refused waits for nobody"
    return {str(todo.id) for todo in load(file).ecosystem.coordination.todos if todo.status == "completed"}


def pretend(site: Trusting) -> None:
    """Say in Redis that the run has succeeded."""
    keys = site.store.keys.run(site.run_id)
    site.redis.hset(keys.state, mapping=dict.fromkeys(TODOS, "succeeded"))
    site.redis.hset(keys.meta, "status", "succeeded")


def test_work_that_was_done_and_signed_is_written(site: Trusting, file: Path):
    site.sweep(TODOS, **HAND)
    site.deliver("A")
    approvals.decide(connected(site, "bob"), Verdict.APPROVE, "HAND", site.run_id)
    site.deliver("B", "r2")
    assert RunReader(site.redis, site.store.keys).read(site.run_id).status == "succeeded"

    assert written(site, file) == set(TODOS)
    assert site.refusals == []


def test_a_forged_run_completes_nothing_and_is_reported(site: Trusting, file: Path):
    site.sweep(TODOS, by=None, **HAND)
    pretend(site)

    assert written(site, file) == set()
    assert "not signed" in site.refusals[-1]
    assert "not signed" in site.redis.hget(site.store.keys.run(site.run_id).meta, FAILURE)


def test_results_and_decisions_that_nobody_signed_are_left_out(site: Trusting, file: Path):
    site.sweep(TODOS, **HAND)
    site.deliver("A")
    approvals.decide(connected(site, "eve"), Verdict.APPROVE, "HAND", site.run_id)
    results = site.store.keys.run(site.run_id).results
    site.redis.hset(results, "B", site.redis.hget(results, "A"))
    pretend(site)

    assert written(site, file) == {"A"}
    assert "lacks the right approve" in site.refusals[-1]
    assert "B: its signed result is one of A" in site.refusals[-1]


def test_still_possible_a_todo_of_a_signed_run_becomes_pending_again_and_completed_once_more(
    site: Trusting, file: Path
):
    site.sweep({"A": "r1"})
    site.deliver("A")
    assert written(site, file) == {"A"}
    keys = site.store.keys.run(site.run_id)

    site.redis.hset(keys.state, "A", "failed")
    assert written(site, file) == set()
    site.redis.hset(keys.state, "A", "succeeded")
    site.redis.hset(keys.facts, "A started_at", 0)
    assert written(site, file) == {"A"}

    (todo,) = (todo for todo in load(file).ecosystem.coordination.todos if todo.id == "A")
    assert todo.actual_hours > 1000
    assert site.refusals == []
