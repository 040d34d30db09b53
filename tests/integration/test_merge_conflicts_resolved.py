"""A conflict between a change set and its base branch: where it is resolved, and how the work goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coordination import Coord
from coordination.errors import Conflict, GitRefused, NotFound
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.store import RunStore
from tests.change_sets import record
from tests.worktrees import ANN, make_checkout, run_id, save
from workers.workspace.git import ask, git

RUN = run_id()
SCRATCH = (
    "cd $(mktemp -d); git init -q; git config user.email h@x; git config user.name h; echo s > s; git add s; "
    "git commit -q -m scratch"
)


@pytest.fixture
def lib(tmp_path: Path, store: RunStore) -> Path:
    """A checkout whose base branch has moved against the change set of P."""
    checkout = make_checkout(tmp_path / "lib")
    base = head(checkout, "main")
    git("switch", "--quiet", "-c", "coord/P", cwd=checkout)
    tip = save(checkout, "ours", **{"code.py": "one = 2\n"})
    git("switch", "--quiet", "main", cwd=checkout)
    save(checkout, "theirs", **{"code.py": "one = 3\n"})
    record(store.redis, "P", "lib", todos="A", base=base, tip=tip, host="here", run=RUN)
    return checkout


@pytest.fixture
def coord(lib: Path, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Coord]:
    monkeypatch.setenv("COORD_HOST", "here")
    file = {
        "settings": {"namespace": "test"},
        "repos": [{"name": "lib", "path": "lib"}],
        "coordination": {
            "plans": [{"id": "P", "title": "a plan"}],
            "todos": [{"id": "A", "task": "t", "repo": "lib", "plan": "P"}],
        },
    }
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))
    with Coord(tmp_path, redis_url) as opened:
        yield opened


def head(checkout: Path, ref: str) -> str:
    return git("rev-parse", ref, cwd=checkout)


def merge(worktree: Path, base: str) -> None:
    """A person resolves the conflict and commits the merge."""
    ask("merge", base, cwd=worktree, git_dir=git_dir(worktree))
    (worktree / "code.py").write_text("one = 5\n")
    git("add", "code.py", cwd=worktree, git_dir=git_dir(worktree))
    git("commit", "--quiet", "--no-edit", cwd=worktree, git_dir=git_dir(worktree), settings=ANN)


def git_dir(worktree: Path) -> Path:
    return Path((worktree / ".git").read_text().removeprefix("gitdir: ").strip())


def kept_by_run(coord: Coord, lib: Path, store: RunStore) -> Path:
    """The worktree that a live run has left to a person, as its worker records it."""
    path = coord.state / "worktrees" / RUN / "lib"
    git("worktree", "add", "--quiet", "-b", f"coord/{RUN}", str(path), "coord/P", cwd=lib)
    records = coord.state / "workspaces" / RUN / "lib"
    records.mkdir(parents=True)
    (records / "conflict").write_text(f"{head(lib, 'coord/P')} {head(lib, 'main')}")
    store.redis.hset(store.keys.changes("P"), "writer lib", RUN)
    meta = {"plan_id": "P", "status": "running", "host.lib": "here"}
    store.redis.hset(store.keys.run(RUN).meta, mapping=meta)
    store.redis.zadd(store.keys.live, {RUN: 1})
    return path


def test_a_merge_driver_that_makes_a_scratch_repository_touches_no_other(coord, lib, store: RunStore):
    git("config", "merge.own.driver", f"({SCRATCH}) >&2; exit 1", cwd=lib)
    (lib / ".git" / "info").mkdir(exist_ok=True)
    (lib / ".git" / "info" / "attributes").write_text("code.py merge=own\n")
    before = (lib / ".git" / "config").read_text(), head(lib, "coord/P")

    found = coord.changes.resolve("P", "lib")

    assert found.files == ("code.py",)
    assert ((lib / ".git" / "config").read_text(), head(lib, "coord/P")) == before


def test_a_conflict_of_a_landing_gets_a_worktree_and_the_merge_is_adopted(coord, lib, store: RunStore):
    found = coord.changes.resolve("P", "lib")
    worktree = Path(found.path)
    assert (found.state, found.files, found.branch, found.run) == ("open", ("code.py",), "coord/P", "")
    assert "<<<<<<<" in (worktree / "code.py").read_text(), "the merge is begun there"
    assert coord.changes.resolve("P", "lib").path == found.path, "asked again, it changes nothing"
    assert Path(found.path).parent.stat().st_mode & 0o077 == 0, "nobody else may enter"

    merge(worktree, found.base)
    merged = head(lib, "coord/P")
    done = coord.changes.resolve("P", "lib")
    assert (done.state, done.taken_up) == ("resolved", merged)
    change = ChangeSets(store).read("P").repos["lib"]  # type: ignore[union-attr]
    assert (change.tip, change.base, change.todos) == (merged, head(lib, "main"), ("A",))
    assert not worktree.exists()
    assert coord.changes.resolve("P", "lib").state == "none"


def test_a_run_that_waits_for_the_merge_shows_its_worktree_and_goes_on(coord, lib, store: RunStore):
    path = kept_by_run(coord, lib, store)
    found = coord.changes.resolve("P", "lib")
    assert (found.state, found.path, found.run) == ("open", str(path), RUN)
    assert (found.host, found.files) == ("here", ("code.py",))
    merge(path, found.base)
    done = coord.changes.resolve("P", "lib")
    assert (done.state, done.taken_up) == ("resolved", RUN)


def test_a_merge_that_is_not_committed_is_not_taken_up(coord, lib, store: RunStore):
    path = kept_by_run(coord, lib, store)
    ask("merge", "main", cwd=path, git_dir=git_dir(path))
    (path / "code.py").write_text("one = 5\n")
    git("add", "code.py", cwd=path, git_dir=git_dir(path))
    assert coord.changes.resolve("P", "lib").state == "open"


def test_a_branch_that_lacks_the_change_set_is_left_alone(coord, lib):
    git("branch", "--quiet", "--force", "coord/P", "main", cwd=lib)
    with pytest.raises(GitRefused, match="coord plan adopt P lib"):
        coord.changes.resolve("P", "lib")


def test_another_host_is_named(coord, store: RunStore):
    store.redis.hset(store.keys.changes("P"), "host lib", "there")
    found = coord.changes.resolve("P", "lib")
    assert (found.state, found.host, found.path) == ("elsewhere", "there", "")
    with pytest.raises(NotFound):
        coord.changes.resolve("P", "app")


def test_a_live_run_meets_the_conflict_itself(coord, store: RunStore, lib: Path):
    """A second worktree for the same merge would be of no use."""
    store.redis.hset(store.keys.changes("P"), "writer lib", "R1")
    meta = {"plan_id": "P", "status": "running", "strategy": "levels", "on_failure": "halt", "actor": "a"}
    store.redis.hset(store.keys.run("R1").meta, mapping=meta)
    store.redis.zadd(store.keys.live, {"R1": 1})
    with pytest.raises(Conflict, match="R1"):
        coord.changes.resolve("P", "lib")
    assert len(git("worktree", "list", cwd=lib).splitlines()) == 1


def test_a_merge_that_git_cannot_try_is_not_free_of_conflicts(coord, lib, store: RunStore):
    git("branch", "--quiet", "--move", "main", "trunk", cwd=lib)
    with pytest.raises(GitRefused, match="no branch main"):
        coord.changes.resolve("P", "lib")
    git("branch", "--quiet", "--move", "trunk", "main", cwd=lib)
    store.redis.hset(store.keys.changes("P"), "tip lib", "f" * 40)
    with pytest.raises(GitRefused, match="cannot merge"):
        coord.changes.resolve("P", "lib")
