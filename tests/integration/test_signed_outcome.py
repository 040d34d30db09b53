"""Somebody owns Redis: where signatures are required, only what was done and signed is written."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from coordination.api.access import EcosystemAccess
from coordination.api.run import Run
from coordination.ecosystem.document import load
from coordination.models import Verdict
from coordination.runs.control import approvals
from coordination.runs.write_back import FAILURE, file_id
from tests.engine import view_of
from tests.integration.test_signed_orders import site
from tests.plans import PLAN
from tests.trusted_worker import Trusting
from workers.file_services import GRACE_MS, ResultsWriter

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


@pytest.fixture(params=["worker", "person"])
def by(request: pytest.FixtureRequest, site: Trusting, monkeypatch: pytest.MonkeyPatch) -> str:
    """The process that writes: a worker, or that of a person who knows the worker."""
    monkeypatch.setenv("COORD_SIGNATURES", "require")
    monkeypatch.setenv("COORD_IDENTITY", str(site.persons.key("ann")))
    monkeypatch.setenv("COORD_REDIS_URL", site.worker.config.redis_url)
    rows = yaml.safe_load(site.persons.file.read_text())
    worker = {"name": "w", "kind": "worker", "keys": [{"key": site.worker.worker_key.load().public_key}]}
    rows["principals"].append(worker)
    site.persons.file.write_text(yaml.safe_dump(rows))
    return str(request.param)


def written(site: Trusting, file: Path, by: str) -> set[str]:
    """The todos that are completed in the file after the results of the run were written there."""
    listed = site.store.keys.unwritten(file_id(file))
    site.redis.zadd(listed, {site.run_id: site.store.now_ms() - 2 * GRACE_MS})
    if by == "worker":
        ResultsWriter(site.store, file, site.worker.order_check.confirm_outcome).run_once()
    else:
        with closing(EcosystemAccess(file)) as access:
            Run(access, site.run_id).sync()
    assert not site.redis.exists(listed), "a result that is refused waits for nobody"
    return {str(todo.id) for todo in load(file).ecosystem.coordination.todos if todo.status == "completed"}


def pretend(site: Trusting) -> None:
    """Say in Redis that the run has succeeded."""
    keys = site.store.keys.run(site.run_id)
    site.redis.hset(keys.state, mapping=dict.fromkeys(TODOS, "succeeded"))
    site.redis.hset(keys.meta, "status", "succeeded")


def test_work_that_was_done_and_signed_is_written(site: Trusting, file: Path, by: str):
    site.sweep(TODOS, file=file_id(file), **HAND)
    site.deliver("A")
    approvals.decide(site.connected("bob"), Verdict.APPROVE, "HAND", site.run_id)
    site.deliver("B", "r2")
    assert view_of(site.store, site.run_id).status == "succeeded"

    assert written(site, file, by) == set(TODOS)
    assert site.refusals == []


def test_a_forged_run_completes_nothing_and_is_reported(site: Trusting, file: Path, by: str):
    site.sweep(TODOS, by=None, file=file_id(file), **HAND)
    pretend(site)

    assert written(site, file, by) == set()
    assert "not signed" in site.refusals[-1]
    assert "not signed" in site.redis.hget(site.store.keys.run(site.run_id).meta, FAILURE)


def test_results_and_decisions_that_nobody_signed_are_left_out(site: Trusting, file: Path, by: str):
    site.sweep(TODOS, file=file_id(file), **HAND)
    site.deliver("A")
    approvals.decide(site.connected("eve"), Verdict.APPROVE, "HAND", site.run_id)
    results = site.store.keys.run(site.run_id).results
    site.redis.hset(results, "B", site.redis.hget(results, "A"))
    pretend(site)

    assert written(site, file, by) == {"A"}
    assert "lacks the right approve" in site.refusals[-1]
    assert "B: its signed result is one of A" in site.refusals[-1]


def test_what_decides_about_the_file_is_signed(site: Trusting, file: Path, by: str):
    check = {"CHECK": {"action": {"type": "qa", "run": "false", "criterion_of": "A"}}}
    site.sweep({"A": "r1", "CHECK": ("r1", ["A"])}, file=file_id(file), **check)
    site.deliver("A")
    site.deliver("CHECK")
    meta = site.store.keys.run(site.run_id).meta
    brief = site.redis.hget(meta, "brief")
    assert written(site, file, by) == set(), "its criterion is not met"

    site.redis.hset(site.store.keys.run(site.run_id).state, "CHECK", "succeeded")
    assert written(site, file, by) == set()
    assert "A: its criterion CHECK" in site.refusals[-1]
    for forged in ({"recurring": True}, {"criteria": {}}):
        site.redis.hset(meta, "brief", json.dumps(json.loads(brief) | forged))
        assert written(site, file, by) == set()


def test_a_worker_writes_into_the_file_that_the_order_names_only(site: Trusting, file: Path):
    site.sweep({"A": "r1"}, file=file_id(file.with_name("other.yaml")))
    site.deliver("A")

    assert written(site, file, "worker") == set()
    assert "not ordered for the file" in site.refusals[-1]


def test_still_possible_a_todo_of_a_signed_run_becomes_pending_again_and_completed_once_more(
    site: Trusting, file: Path, by: str
):
    site.sweep({"A": "r1"}, file=file_id(file))
    site.deliver("A")
    assert written(site, file, by) == {"A"}
    keys = site.store.keys.run(site.run_id)

    site.redis.hset(keys.state, "A", "failed")
    assert written(site, file, by) == set()
    site.redis.hset(keys.state, "A", "succeeded")
    site.redis.hset(keys.facts, "A started_at", 0)
    assert written(site, file, by) == {"A"}

    (todo,) = (todo for todo in load(file).ecosystem.coordination.todos if todo.id == "A")
    assert todo.actual_hours > 1000
    assert site.refusals == []
