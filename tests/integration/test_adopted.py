"""A branch that a person takes as the tip of a change set, and one that Redis has lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coordination import Coord
from coordination.errors import Conflict, GitRefused, NotFound, UsageError
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.store import RunStore
from tests.change_sets import record
from tests.worktrees import ANN, make_checkout, save
from workers.workspace.git import git

RUNS = ("20260101-000000-aaaa", "20260102-000000-bbbb")


@pytest.fixture
def lib(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "lib")


@pytest.fixture
def coord(lib: Path, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Coord]:
    monkeypatch.setenv("COORD_HOST", "here")
    todos = [{"id": name, "task": "t", "repo": "lib", "plan": "P"} for name in ("A", "B")]
    file = {
        "settings": {"namespace": "test"},
        "repos": [{"name": "lib", "path": "lib"}, {"name": "app", "path": "app"}],
        "coordination": {"plans": [{"id": "P", "title": "a plan"}], "todos": todos},
    }
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))
    with Coord(tmp_path, redis_url) as opened:
        yield opened


def head(checkout: Path, ref: str) -> str:
    return git("rev-parse", ref, cwd=checkout)


def work(checkout: Path, branch: str, todo: str, run: str, *, plan: str = "P", begin: str = "main") -> str:
    """A commit of a todo on a branch, as a worker makes it."""
    git("switch", "--quiet", "-C", branch, begin, cwd=checkout)
    (checkout / todo).write_text("1\n")
    git("add", "--all", cwd=checkout)
    trailers = f"Coord-Run: {run}\nCoord-Plan: {plan}\nCoord-Todo: {todo}\nCoord-Fence: 1"
    git("commit", "--quiet", "-m", f"work\n\n{trailers}", cwd=checkout, settings=ANN)
    made = head(checkout, "HEAD")
    git("switch", "--quiet", "main", cwd=checkout)
    return made


@pytest.mark.parametrize("branch", ["coord/P", f"coord/{RUNS[1]}"])
def test_a_change_set_that_redis_has_lost_is_built_from_its_commits(coord, lib, store: RunStore, branch: str):
    base = head(lib, "main")
    work(lib, f"coord/{RUNS[0]}", "A", RUNS[0])
    tip = work(lib, branch, "B", RUNS[1], begin=f"coord/{RUNS[0]}")
    work(lib, "coord/other", "C", RUNS[0], plan="Q")
    (found,) = coord.changes.adopt("P")
    assert (found.branch, dict(found.todos), found.lacks) == (branch, {"A": RUNS[0], "B": RUNS[1]}, ())
    built = ChangeSets(store).read("P")
    assert built is not None
    change = built.repos["lib"]
    assert (change.base, change.tip, change.runs, change.host) == (base, tip, RUNS, "here")
    assert (change.commits, change.files, change.added, change.removed) == (2, 2, 2, 0)
    assert dict(built.source) == {"A": RUNS[0], "B": RUNS[1]}
    assert head(lib, "coord/P") == tip
    with pytest.raises(NotFound):
        coord.changes.adopt("P")


def test_a_rewritten_branch_takes_the_place_of_our_tip(coord, lib, store: RunStore):
    ours = work(lib, "coord/P", "A", RUNS[0])
    record(store.redis, "P", "lib", todos="A", tip=ours, run=RUNS[0])
    git("switch", "--quiet", "-c", "rewritten", "main", cwd=lib)
    theirs = save(lib, "all in one", A="1\n", more="2\n")
    git("switch", "--quiet", "main", cwd=lib)
    (found,) = coord.changes.adopt("P", "lib", "rewritten")
    assert (found.before, found.tip, found.lacks) == (ours, theirs, ("A",))
    built = ChangeSets(store).read("P")
    assert built is not None
    assert (built.repos["lib"].tip, built.repos["lib"].todos) == (theirs, ("A",))
    assert head(lib, "coord/P") == theirs


def test_nothing_changes_while_the_branch_is_checked_out_or_a_run_writes(coord, lib, store: RunStore):
    ours = work(lib, "coord/P", "A", RUNS[0])
    record(store.redis, "P", "lib", todos="A", tip=ours, run=RUNS[0], writer="R1")
    work(lib, "mine", "B", RUNS[1])
    git("switch", "--quiet", "coord/P", cwd=lib)
    with pytest.raises(Conflict, match="checked out"):
        coord.changes.adopt("P", "lib", "mine")
    git("switch", "--quiet", "main", cwd=lib)
    meta = {"plan_id": "P", "status": "running", "strategy": "levels", "on_failure": "halt", "actor": "a"}
    store.redis.hset(store.keys.run("R1").meta, mapping=meta)
    store.redis.zadd(store.keys.live, {"R1": 1})
    with pytest.raises(Conflict, match="R1"):
        coord.changes.adopt("P", "lib", "mine")
    assert head(lib, "coord/P") == ours


@pytest.mark.parametrize(
    ("repo", "branch", "error"),
    [
        ("lib", "main", GitRefused),
        ("lib", "--output=x", NotFound),
        ("lib", "gone", NotFound),
        ("app", "main", GitRefused),
        ("other", "main", NotFound),
        ("lib", None, UsageError),
    ],
)
def test_a_branch_without_work_is_refused(coord, repo, branch, error, store: RunStore):
    with pytest.raises(error):
        coord.changes.adopt("P", repo, branch)
    assert ChangeSets(store).list() == ()


def test_work_on_several_branches_is_not_guessed_at(coord, lib):
    work(lib, f"coord/{RUNS[0]}", "A", RUNS[0])
    work(lib, f"coord/{RUNS[1]}", "B", RUNS[1])
    with pytest.raises(GitRefused, match="several branches"):
        coord.changes.adopt("P")
