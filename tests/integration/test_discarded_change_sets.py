"""A change set that is given up, and the branch of one that has landed: nothing is lost without a copy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coordination import Coord
from coordination.errors import Blocked, Conflict, NotFound
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.maintenance.cleaning import Cleaning
from tests.change_sets import record
from tests.cleanup_host import Machine
from tests.testbed import git
from tests.worktrees import save

LANDED = {
    "tree_before": "d" * 40,
    "method": "merge",
    "via": "local",
    "at": "2026-01-02T00:00:00Z",
    "run": "R9",
}
KEPT = "refs/coord/discarded/P"


@pytest.fixture
def tip(machine: Machine) -> str:
    """The tip of the change set of P, on its branch in `r1`."""
    base = git(machine.repo, "rev-parse", "main")
    git(machine.repo, "switch", "-qc", "coord/P")
    made = save(machine.repo, "work", new="1\n")
    git(machine.repo, "switch", "-q", "main")
    record(machine.store.redis, "P", "r1", todos="A", base=base, tip=made, host=machine.host)
    return made


@pytest.fixture
def coord(tmp_path: Path, redis_url: str) -> Iterator[Coord]:
    todos = [
        {
            "id": "A",
            "task": "a",
            "repo": "r1",
            "plan": "P",
            "status": "completed",
            "action": "true",
            "actual_hours": 2,
        },
        {"id": "B", "task": "by hand", "repo": "r1", "plan": "P", "status": "completed"},
    ]
    file = {
        "settings": {"namespace": "test", "redis_url": redis_url},
        "repos": [{"name": "r1", "path": "r1"}],
        "coordination": {"plans": [{"id": "P", "title": "a plan"}], "todos": todos},
    }
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))
    with Coord(tmp_path, redis_url) as opened:
        yield opened


def refs(machine: Machine, pattern: str) -> list[str]:
    return git(machine.repo, "for-each-ref", "--format=%(objectname)", pattern).split()


def test_a_discarded_change_set_leaves_its_tip_and_opens_its_todos(coord, machine, tip, store):
    done = coord.changes.discard("P")
    assert (done.todos, done.reopened) == (("A",), ("A",))
    assert refs(machine, KEPT) == [tip]
    assert "coord/P" not in machine.branches()
    assert {todo.id: todo.status for todo in coord.manager.list_todos()} == {"A": "pending", "B": "completed"}
    assert coord.manager.get_todo("A").actual_hours is None
    assert ChangeSets(store).list() == ()
    with pytest.raises(NotFound):
        coord.changes.discard("P")


def test_commits_of_a_person_on_the_branch_are_kept_with_it(coord, machine, tip):
    git(machine.repo, "switch", "-q", "coord/P")
    theirs = save(machine.repo, "a person's", mine="1\n")
    with pytest.raises(Conflict, match="checked out"):
        coord.changes.discard("P")
    assert coord.manager.get_todo("A").status == "completed", "nothing was changed"
    git(machine.repo, "switch", "-q", "main")
    coord.changes.discard("P")
    assert set(refs(machine, KEPT)) == {tip, theirs}


def test_a_preview_shows_the_todos_that_a_discard_opens_again(coord, machine, tip):
    """And changes nothing."""
    found = coord.runs.preview_sweep("P", fresh=True).dry_run
    assert [step.id for step in found.steps] == ["A"]
    assert coord.manager.get_todo("A").status == "completed"
    assert refs(machine, "refs/heads/coord/P") == [tip]


def test_a_host_that_does_not_answer_refuses_the_discard(coord, machine, tip, store):
    record(store.redis, "P", "r2", host="h2", tip="e" * 40)
    with pytest.raises(Blocked, match="r2 on h2"):
        coord.changes.discard("P")
    assert machine.branches() == {"main", "coord/P"}


def test_a_run_that_writes_the_change_set_refuses_the_discard(coord, tip, store):
    store.redis.hset(store.keys.changes("P"), "writer r1", "R1")
    meta = {"plan_id": "P", "status": "running", "strategy": "levels", "on_failure": "halt", "actor": "a"}
    store.redis.hset(store.keys.run("R1").meta, mapping=meta)
    store.redis.zadd(store.keys.live, {"R1": 1})
    with pytest.raises(Conflict, match="R1"):
        coord.changes.discard("P")


def test_clean_removes_the_branch_of_a_landed_change_set_and_no_other(
    machine: Machine, cleaning: Cleaning, tip, store
):
    run = machine.run()
    bundle = store.keys.run(run)
    record(store.redis, "P", "r1", tip=tip, run=run, todos="A")
    cleaning.remove(cleaning.survey([]))
    assert "coord/P" in machine.branches(), "it has not landed"
    assert store.redis.exists(bundle.meta)

    store.redis.hset(store.keys.changes("P"), "landed r1", json.dumps({**LANDED, "commit": tip}))
    git(machine.repo, "merge", "-q", "coord/P")
    found = cleaning.survey([])
    assert [artifact.branch for artifact in found.removable if artifact.branch] == ["coord/P"]
    cleaning.remove(found)
    assert "coord/P" not in machine.branches()
    assert ChangeSets(store).read("P") is not None, "a revert needs it"


def test_a_landed_branch_with_commits_of_a_person_stays(machine: Machine, cleaning: Cleaning, tip, store):
    store.redis.hset(store.keys.changes("P"), "landed r1", json.dumps({**LANDED, "commit": tip}))
    git(machine.repo, "switch", "-q", "coord/P")
    save(machine.repo, "a person's", mine="1\n")
    git(machine.repo, "switch", "-q", "main")
    (found,) = [artifact for artifact in cleaning.survey([]).found if artifact.branch]
    assert found.stays
    cleaning.remove(cleaning.survey([]))
    assert "coord/P" in machine.branches()
