"""Workspaces: who may enter one, what makes it unusable, and that the checkout stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from coordination.errors import GitRefused
from coordination.models import Repo
from tests.testbed import FORKS
from tests.worktrees import AT_ONCE, SOON, Run, claimant, git
from workers.workspace.base import InPlace
from workers.workspace.files import clear_scratch, scratch
from workers.workspace.lock import Superseded, WorkspaceBusy
from workers.workspace.repository import common_dir_of, tip
from workers.workspace.worktree import Worktree


def fingerprint(checkout: Path) -> dict[str, str]:
    """Everything that the owner of a checkout would notice: files, index and HEAD, byte for byte, with
    times.
    """
    files = [
        path
        for path in checkout.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(checkout).parts
    ]
    git_files = [checkout / ".git" / name for name in ("index", "HEAD", "config")]
    return {
        str(path): f"{path.read_bytes()!r} {path.stat().st_mtime_ns} {path.stat().st_mode}"
        for path in (*files, *git_files)
    }


def test_the_checkout_with_its_uncommitted_work_is_untouched_byte_for_byte(run: Run, checkout: Path):
    (checkout / "staged.py").write_text("staged\n")
    git("add", "staged.py", cwd=checkout)
    (checkout / "code.py").write_text("uncommitted\n")
    (checkout / "untracked.txt").write_text("untracked\n")
    before = fingerprint(checkout)

    start = run.enter()
    run.write("by the todo\n")
    new = run.tree.commit("T", "change")
    run.tree.leave()
    run.enter(tip=new)
    run.write("fails\n")
    run.tree.leave()
    run.tree.remove(SOON)

    assert fingerprint(checkout) == before
    assert git("status", "--porcelain", cwd=checkout).splitlines() == [
        " M code.py",
        "A  staged.py",
        "?? untracked.txt",
    ]
    assert git("show", f"{start}:code.py", cwd=checkout) == "one = 1"


def test_a_superseded_attempt_neither_commits_nor_enters(run: Run, tmp_path: Path, checkout: Path):
    base = run.enter()
    run.write("old attempt\n")
    records = tmp_path / "state" / "workspaces" / "r1" / "widgets" / "occupant.json"
    records.write_text(json.dumps(json.loads(records.read_text()) | {"fence": 7, "left": True}))

    with pytest.raises(Superseded, match="newer attempt"):
        run.tree.commit("T", "too late")
    assert git("rev-parse", "coord/r1", cwd=checkout) == base
    records_after = records.read_text()
    late = Worktree(state=tmp_path / "state", run="r1", repo=Repo(name="widgets"), checkout=checkout)
    run.tree._workspace_lock._release()  # the old attempt goes without a word, as by SIGKILL
    with pytest.raises(Superseded, match="older attempt 3"):
        late.enter(claimant("r1", 3), base, SOON)
    assert records.read_text() == records_after


def test_an_attempt_that_wakes_up_after_its_run_changes_nothing(run: Run, tmp_path: Path, checkout: Path):
    run.fence = 1  # granted to an attempt that was frozen before it came in
    new = run.work("x")
    run.tree.remove(SOON)

    late = Worktree(state=tmp_path / "state", run="r1", repo=Repo(name="widgets"), checkout=checkout)
    with pytest.raises(Superseded):
        late.enter(claimant("r1", 1), None, SOON)

    assert git("rev-parse", "coord/r1", cwd=checkout) == new


def test_a_commit_is_not_taken_back_after_a_newer_attempt_has_entered(run: Run, checkout: Path):
    run.work("x")
    older = run.claimant
    newer = run.work("y")

    with pytest.raises(Superseded):
        run.tree.take_back(older, None)
    run.tree.remove(SOON)
    with pytest.raises(Superseded):
        run.tree.take_back(older, None)

    assert git("rev-parse", "coord/r1", cwd=checkout) == newer


def test_a_worktree_in_use_is_neither_entered_nor_removed(run: Run, tmp_path: Path, checkout: Path):
    run.enter()
    second = Worktree(state=tmp_path / "state", run="r1", repo=Repo(name="widgets"), checkout=checkout)

    with pytest.raises(WorkspaceBusy, match=f"worker {os.getpid()}") as busy:
        second.enter(claimant("r1", 9), None, AT_ONCE)
    assert busy.value.holder == os.getpid()
    with pytest.raises(WorkspaceBusy):
        second.remove(AT_ONCE)


def test_runs_that_begin_at_the_same_time_do_not_disturb_each_other(tmp_path: Path, checkout: Path):
    script = textwrap.dedent(
        """
        import sys
        from datetime import timedelta
        from pathlib import Path
        from coordination.models import Repo
        from tests.worktrees import claimant
        from workers.workspace.worktree import Worktree
        state, checkout, run = sys.argv[1:]
        tree = Worktree(state=Path(state), run=run, repo=Repo(name="widgets"), checkout=Path(checkout))
        for fence in range(1, 4):
            tip = tree.enter(claimant(run, fence), None, timedelta(seconds=50))
            (tree.path / run).write_text(str(fence))
            tree.commit("T", "work")
            tree.leave()
            tree.remove(timedelta(seconds=50))
        """
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "state"), str(checkout)]

    processes = [FORKS.piped([*arguments, f"r{n}"]) for n in range(4)]

    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    for n in range(4):
        assert git("show", f"coord/r{n}:r{n}", cwd=checkout) == "3"


@pytest.mark.parametrize(
    ("prepare", "says", "hint"),
    [
        ("git branch coord", "branch named coord", "branch -m coord"),
        ("rm -rf .git && echo gitdir: /nowhere > .git", "does not accept", "git names"),
    ],
)
def test_a_repository_that_can_have_no_worktree_is_refused(
    checkout: Path, prepare: str, says: str, hint: str
):
    subprocess.run(["sh", "-c", prepare], cwd=checkout, check=True)

    with pytest.raises(GitRefused, match=says) as refused:
        common_dir_of("widgets", checkout, ("coord/",))
    assert hint in refused.value.hint


@pytest.mark.parametrize("where", ["checkouts/w", "wid\ngets", "w\u2028\x0b\n"])
def test_a_path_with_any_character_is_found_and_worked_on(tmp_path: Path, checkout: Path, where: str):
    odd = tmp_path / f"odd {where}"
    odd.parent.mkdir(exist_ok=True)
    checkout.rename(odd)
    run = Run(odd, odd)

    found = common_dir_of("widgets", odd)
    run.enter()
    run.write("new\n", "new")
    new = run.tree.commit("T", "more")
    run.tree.leave()
    again = run.enter(new)
    run.tree.leave()

    assert found == odd / ".git"
    assert again == new
    assert common_dir_of("widgets", run.tree.path) == odd / ".git"
    run.tree.remove(SOON)
    assert not run.tree.path.exists()


def test_a_missing_folder_and_a_missing_branch_are_named(checkout: Path):
    with pytest.raises(GitRefused, match="no folder") as refused:
        common_dir_of("widgets", checkout.parent / "nothing")
    assert "coord worker --repo widgets=PATH" in refused.value.hint
    git("branch", "develop", cwd=checkout)
    with pytest.raises(GitRefused, match="no branch trunk; there are: develop, main") as refused:
        tip("widgets", checkout, "trunk")
    assert "coord retry" in refused.value.hint


def test_a_base_branch_that_only_the_remote_has_is_refused_with_the_command_that_makes_it(checkout: Path):
    git("update-ref", "refs/remotes/origin/release/2", "main", cwd=checkout)

    with pytest.raises(GitRefused) as refused:
        tip("widgets", checkout, "release/2")

    made = refused.value.hint.removeprefix("make it: git ").partition(";")[0].split()
    git(*made, cwd=checkout)
    assert tip("widgets", checkout, "release/2") == git("rev-parse", "main", cwd=checkout)


def test_a_branch_that_is_checked_out_elsewhere_is_refused_by_its_place(run: Run, checkout: Path):
    git("switch", "--quiet", "-c", "coord/r1", cwd=checkout)

    with pytest.raises(GitRefused, match=f"coord/r1 is checked out in {checkout}"):
        run.enter()


def test_a_folder_without_worktrees_is_refused_except_in_place(checkout: Path, tmp_path: Path):
    plain, empty, inside = tmp_path / "plain", tmp_path / "empty", checkout / "inside"
    plain.mkdir()
    inside.mkdir()
    git("init", "--quiet", str(empty), cwd=tmp_path)

    for path, why in (
        (plain, "not a git repository"),
        (empty, "no commit yet"),
        (inside, "inside the repository"),
    ):
        with pytest.raises(GitRefused, match=why) as refused:
            common_dir_of("it", path)
        assert "workspace: in-place" in refused.value.hint
        assert InPlace(state=tmp_path / "state", path=path).is_intact


def test_in_place_nothing_is_cleaned_or_committed_but_one_works_at_a_time(checkout: Path, tmp_path: Path):
    (checkout / "code.py").write_text("uncommitted\n")
    first, second = (InPlace(state=tmp_path / "state", path=checkout) for _ in range(2))
    before = fingerprint(checkout)

    first.enter(claimant("r1", 1), None, SOON)
    with pytest.raises(WorkspaceBusy):
        second.enter(claimant("r2", 2), None, AT_ONCE)
    assert first.commit("T", "nothing") == ""
    first.leave()
    second.enter(claimant("r2", 2), None, AT_ONCE)
    second.leave()

    assert fingerprint(checkout) == before


def test_temporary_folders_of_dead_workers_are_removed(tmp_path: Path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, others = tmp_path / "tmp" / f"{gone.pid}-abc", tmp_path / "tmp" / "kept"
    others.mkdir(parents=True)
    left.mkdir()
    (left / "connection.json").write_text("{}")

    with scratch(tmp_path) as mine:
        clear_scratch(tmp_path)

        assert not left.exists()
        assert mine.exists()
        assert mine.name.startswith(f"{os.getpid()}-")
        assert others.exists()
