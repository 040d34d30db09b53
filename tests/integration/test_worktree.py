"""A run's worktree against real git: what an attempt finds, what becomes of its changes, and that the checkout stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.errors import GitRefused
from coordination.models import Repo, Workspace
from tests.waiting import until
from workers.process import orphans
from workers.workspace.choice import InPlace, workspace_for
from workers.workspace.commit import CommitRefused
from workers.workspace.git import git
from workers.workspace.lock import LockRequest, Superseded, WorkspaceBusy
from workers.workspace.repository import common_dir_of, tip
from workers.workspace.worktree import Worktree

AT_ONCE = timedelta(0)
SOON = timedelta(seconds=5)
ANN = ("user.name=Ann", "user.email=ann@example.org")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "home").mkdir()
    path = tmp_path / "checkouts" / "widgets"
    path.mkdir(parents=True)
    git("init", "--quiet", "--initial-branch=main", cwd=path)
    (path / "code.py").write_text("one = 1\n")
    (path / ".gitignore").write_text("*.cache\n")
    save(path, "first")
    return path


def save(path: Path, text: str) -> str:
    git("add", "--all", cwd=path)
    git("commit", "--quiet", "-m", text, cwd=path, settings=ANN)
    return git("rev-parse", "HEAD", cwd=path)


class Run:
    """One run's view of the checkout; each `attempt` is a visitor with the next fence."""

    def __init__(self, tmp_path: Path, checkout: Path, run: str = "r1", prepare: str | None = None) -> None:
        self.tree = Worktree(
            state=tmp_path / "state", run=run, repo=Repo(name="widgets", prepare=prepare), checkout=checkout
        )
        self.run = run
        self.fence = 0

    def enter(self, tip: str | None = None, patience: timedelta = SOON) -> str:
        self.fence += 1
        self.lock_request = LockRequest(run_id=self.run, key=f"{self.run}/T", fence=self.fence)
        return self.tree.enter(self.lock_request, tip, patience)

    def log(self, form: str = "%s") -> list[str]:
        return git("log", f"--format={form}", self.tree.branch, cwd=self.tree.path).splitlines()


@pytest.fixture
def run(tmp_path: Path, checkout: Path) -> Iterator[Run]:
    it = Run(tmp_path, checkout)
    yield it
    it.tree.leave()


def fingerprint(checkout: Path) -> dict[str, str]:
    """Everything that the owner of a checkout would notice: files, index and HEAD, byte for byte, with times."""
    files = [
        path
        for path in checkout.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(checkout).parts
    ]
    facts = {}
    for path in [
        *files,
        checkout / ".git" / "index",
        checkout / ".git" / "HEAD",
        checkout / ".git" / "config",
    ]:
        stat = path.stat()
        facts[str(path)] = (
            f"{hashlib.sha256(path.read_bytes()).hexdigest()} {stat.st_mtime_ns} {stat.st_mode}"
        )
    return facts


def test_a_todos_changes_become_one_commit_with_trailers_on_the_runs_branch(run: Run, checkout: Path):
    base = run.enter()
    (run.tree.path / "code.py").write_text("one = 2\n")
    (run.tree.path / "new.py").write_text("two = 2\n")

    new = run.tree.commit("TODO-001", "Raise the\nminimum Python")
    run.tree.leave()

    assert git("rev-parse", f"{new}^", cwd=checkout) == base == git("rev-parse", "main", cwd=checkout)
    assert git("rev-parse", "coord/r1", cwd=checkout) == new
    assert git("log", "-1", "--format=%s", new, cwd=checkout) == "TODO-001: Raise the minimum Python"
    body = git("log", "-1", "--format=%B", new, cwd=checkout)
    trailers = git("interpret-trailers", "--parse", cwd=checkout, stdin=body)
    assert trailers.splitlines() == ["Coord-Run: r1", "Coord-Todo: TODO-001", "Coord-Fence: 1"]
    assert git("show", "--format=", "--name-only", new, cwd=checkout).splitlines() == ["code.py", "new.py"]
    assert git("status", "--porcelain", cwd=run.tree.path) == ""


def test_the_checkout_with_its_uncommitted_work_is_untouched_byte_for_byte(run: Run, checkout: Path):
    (checkout / "staged.py").write_text("staged\n")
    git("add", "staged.py", cwd=checkout)
    (checkout / "code.py").write_text("uncommitted\n")
    (checkout / "untracked.txt").write_text("untracked\n")
    before = fingerprint(checkout)

    start = run.enter()
    (run.tree.path / "code.py").write_text("by the todo\n")
    new = run.tree.commit("T", "change")
    run.tree.leave()
    run.enter(tip=new)
    (run.tree.path / "code.py").write_text("fails\n")
    run.tree.leave()
    run.tree.remove(SOON)

    assert fingerprint(checkout) == before
    assert git("status", "--porcelain", cwd=checkout).splitlines() == [
        " M code.py",
        "A  staged.py",
        "?? untracked.txt",
    ]
    assert git("show", f"{start}:code.py", cwd=checkout) == "one = 1"


def test_a_todo_that_changes_nothing_makes_no_commit(run: Run):
    base = run.enter()

    assert run.tree.commit("T", "look around") == base
    assert run.log() == ["first"]


def test_what_a_todo_commits_itself_is_kept_and_the_rest_comes_on_top(run: Run):
    run.enter()
    (run.tree.path / "code.py").write_text("one = 3\n")
    save(run.tree.path, "by the todo itself")
    own = run.tree.commit("T", "all committed")
    assert run.log() == ["by the todo itself", "first"]
    (run.tree.path / "code.py").write_text("one = 4\n")

    new = run.tree.commit("T", "something left")

    assert run.log() == ["T: something left", "by the todo itself", "first"]
    assert git("rev-parse", f"{new}^", cwd=run.tree.path) == own


@pytest.mark.parametrize(
    "switch", [["switch", "--quiet", "--detach"], ["switch", "--quiet", "-c", "feature"]]
)
def test_commits_that_a_todo_made_beside_the_branch_are_brought_to_it(run: Run, switch: list[str]):
    run.enter()
    git(*switch, cwd=run.tree.path)
    (run.tree.path / "code.py").write_text("beside\n")
    save(run.tree.path, "beside the branch")
    (run.tree.path / "more.py").write_text("more\n")

    new = run.tree.commit("T", "rest")
    run.tree.leave()

    assert run.log() == ["T: rest", "beside the branch", "first"]
    run.enter(tip=new)
    assert git("symbolic-ref", "HEAD", cwd=run.tree.path) == "refs/heads/coord/r1"
    assert git("status", "--porcelain", cwd=run.tree.path) == ""


def test_an_attempt_begins_clean_at_the_recorded_tip_and_a_commit_whose_settle_was_lost_is_dropped(run: Run):
    base = run.enter()
    (run.tree.path / "code.py").write_text("lost\n")
    lost = run.tree.commit("T", "settle gets lost")
    (run.tree.path / "rubbish").write_text("rubbish")
    (run.tree.path / "kept.cache").write_text("ignored files stay: they are caches")
    git("init", "--quiet", "cloned", cwd=run.tree.path)
    run.tree.leave()

    assert run.enter(tip=base) == base

    assert git("rev-parse", "coord/r1", cwd=run.tree.path) == base != lost
    assert sorted(p.name for p in run.tree.path.iterdir()) == [".git", ".gitignore", "code.py", "kept.cache"]
    assert (run.tree.path / "code.py").read_text() == "one = 1\n"


def test_every_attempt_before_the_first_success_begins_where_the_run_began(run: Run, checkout: Path):
    base = run.enter()
    run.tree.leave()
    (checkout / "code.py").write_text("main goes on\n")
    save(checkout, "second")

    assert run.enter() == base


def test_a_merge_and_a_rebase_in_progress_are_set_back(run: Run, checkout: Path):
    git("switch", "--quiet", "-c", "other", cwd=checkout)
    (checkout / "code.py").write_text("other\n")
    save(checkout, "other")
    git("switch", "--quiet", "main", cwd=checkout)
    base = run.enter()
    (run.tree.path / "code.py").write_text("ours\n")
    save(run.tree.path, "ours")
    with pytest.raises(GitRefused, match="conflict"):
        git("rebase", "other", cwd=run.tree.path, settings=ANN)
    with pytest.raises(GitRefused, match=r"left a merge with conflicts in code\.py"):
        run.tree.commit("T", "half a rebase")
    (Path(git("rev-parse", "--absolute-git-dir", cwd=run.tree.path)) / "index.lock").touch()
    run.tree.leave()

    run.enter(tip=base)

    assert "rebase" not in git("status", cwd=run.tree.path)
    assert git("status", "--porcelain", cwd=run.tree.path) == ""


def test_a_merge_that_was_prepared_but_not_committed_keeps_both_parents(run: Run, checkout: Path):
    git("switch", "--quiet", "-c", "other", cwd=checkout)
    (checkout / "other.py").write_text("other\n")
    other = save(checkout, "other")
    git("switch", "--quiet", "main", cwd=checkout)
    base = run.enter()
    git("merge", "--no-ff", "--no-commit", "--quiet", "other", cwd=run.tree.path, settings=ANN)

    new = run.tree.commit("T", "merge other")

    assert git("log", "-1", "--format=%P", new, cwd=checkout).split() == [base, other]
    assert git("status", "--porcelain", cwd=run.tree.path) == ""


def test_a_history_that_the_todo_rewrote_is_refused(run: Run):
    run.enter()
    (run.tree.path / "code.py").write_text("rewritten\n")
    amend = ("commit", "--quiet", "--all", "--amend", "-m", "rewritten")
    git(*amend, cwd=run.tree.path, settings=ANN)

    with pytest.raises(GitRefused, match="history was rewritten") as refused:
        run.tree.commit("T", "amend")
    assert "revert" in refused.value.hint


def test_a_superseded_attempt_neither_commits_nor_enters(run: Run, tmp_path: Path, checkout: Path):
    base = run.enter()
    (run.tree.path / "code.py").write_text("old attempt\n")
    records = tmp_path / "state" / "workspaces" / "r1" / "widgets" / "occupant.json"
    records.write_text(json.dumps(json.loads(records.read_text()) | {"fence": 7, "left": True}))

    with pytest.raises(Superseded, match="newer attempt"):
        run.tree.commit("T", "too late")
    assert git("rev-parse", "coord/r1", cwd=checkout) == base
    records_after = records.read_text()
    late = Worktree(state=tmp_path / "state", run="r1", repo=Repo(name="widgets"), checkout=checkout)
    run.tree._workspace_lock._release()  # the old attempt goes without a word, as by SIGKILL
    with pytest.raises(Superseded, match="older attempt 3"):
        late.enter(LockRequest(run_id="r1", key="k", fence=3), base, SOON)
    assert records.read_text() == records_after


def test_the_branch_moves_only_from_where_it_was_seen(run: Run, checkout: Path):
    base = run.enter()
    side = git("commit-tree", "-p", base, "-m", "side", f"{base}^{{tree}}", cwd=checkout, settings=ANN)
    hook = checkout / ".git" / "hooks" / "commit-msg"  # between git's look at the branch and its move
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ngit update-ref refs/heads/coord/r1 {side}\n")
    hook.chmod(0o755)
    (run.tree.path / "code.py").write_text("one = 2\n")

    with pytest.raises(CommitRefused, match=f"is at {side} but expected {base}"):
        run.tree.commit("T", "work")

    assert git("rev-parse", "coord/r1", cwd=checkout) == side


def test_a_branch_that_git_cannot_move_is_refused_and_nobody_is_said_to_have_superseded_the_attempt(run: Run):
    run.enter()
    for words in (
        "checkout --quiet --detach",
        "branch --quiet -D coord/r1",
        "branch --quiet coord/r1/in-the-way",
    ):
        git(*words.split(), cwd=run.tree.path)
    (run.tree.path / "code.py").write_text("one = 2\n")

    with pytest.raises(GitRefused, match="coord/r1/in-the-way"):
        run.tree.commit("T", "work")


def test_odd_files_are_committed_and_do_not_crash(run: Run):
    run.enter()
    tree = run.tree.path
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("/nowhere/at/all")
    (tree / "spaced name é\t.txt").write_text("x")
    Path(os.fsdecode(os.fsencode(str(tree)) + b"/not-utf8-\xff")).write_text("x")
    (tree / "big.bin").write_bytes(os.urandom(1024) * 5000)
    os.mkfifo(tree / "pipe")
    (tree / "deep").mkdir()
    for nested in ("empty-repo", "deep/clone"):
        git("init", "--quiet", nested, cwd=tree)
        (tree / nested / "inside.txt").write_text("x")
    save(tree / "deep" / "clone", "inside")
    (tree / "deep" / "beside.txt").write_text("x")
    (tree / ".gitignore").unlink()

    new = run.tree.commit("T", "odd files")

    listed = git("ls-tree", "-r", "-z", new, cwd=tree).split("\0")
    modes = {line.partition("\t")[2]: line.split()[0] for line in listed if line}
    assert modes["run.sh"] == "100755"
    assert modes["link"] == "120000"
    assert sorted(modes) == sorted(
        ["big.bin", "code.py", "deep/beside.txt", "link", "not-utf8-\udcff", "run.sh", "spaced name é\t.txt"]
    )


def test_a_changed_submodule_is_committed(run: Run, tmp_path: Path):
    library = tmp_path / "library"
    git("init", "--quiet", str(library), cwd=tmp_path)
    (library / "lib.py").write_text("x")
    save(library, "library")
    run.enter()
    add = ("submodule", "--quiet", "add", str(library), "vendored")
    git(*add, cwd=run.tree.path, settings=("protocol.file.allow=always",))

    new = run.tree.commit("T", "vendor the library")
    run.tree.leave()

    assert git("ls-tree", new, "vendored", cwd=run.tree.path).startswith("160000 commit")
    run.enter(tip=new)
    run.tree.leave()
    run.tree.remove(SOON)


def test_hooks_of_a_checkout_do_not_run_for_our_worktree_without_an_author(run: Run, checkout: Path):
    hook = checkout / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    git("config", "--global", "user.useConfigOnly", "true", cwd=checkout)
    run.enter()
    (run.tree.path / "code.py").write_text("x")

    run.tree.commit("T", "by nobody")

    assert run.log("%an <%ae> %cn")[0] == "coord <coord@localhost> coord"


def test_the_author_is_who_git_says_when_it_says_one(run: Run, checkout: Path):
    git("config", "--global", "user.name", "Bea", cwd=checkout)
    git("config", "--global", "user.email", "bea@example.org", cwd=checkout)
    run.enter()
    (run.tree.path / "code.py").write_text("x")

    run.tree.commit("T", "by Bea")

    assert run.log("%an <%ae>")[0] == "Bea <bea@example.org>"


def test_redirecting_variables_have_no_effect(
    run: Run, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    git("init", "--quiet", str(tmp_path / "elsewhere"), cwd=tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere" / "index"))

    base = run.enter()

    assert base == tip("widgets", checkout, "main")
    assert (run.tree.path / "code.py").exists()


@pytest.mark.parametrize(
    "damage",
    [
        "folder deleted",
        "folder deleted, HEAD detached",
        "git file deleted",
        "index broken",
        "entry deleted",
        "emptied",
    ],
)
def test_a_worktree_that_was_damaged_by_hand_is_made_anew(run: Run, damage: str, tmp_path: Path):
    run.enter()
    (run.tree.path / "code.py").write_text("kept\n")
    new = run.tree.commit("T", "work")
    run.tree.leave()
    entry = Path(git("rev-parse", "--absolute-git-dir", cwd=run.tree.path))
    commands = {
        "folder deleted": f"rm -rf {run.tree.path}",
        "folder deleted, HEAD detached": f"git -C {run.tree.path} checkout -q --detach && rm -rf {run.tree.path}",
        "git file deleted": f"rm {run.tree.path}/.git",
        "index broken": f"echo rubbish > {entry}/index",
        "entry deleted": f"rm -rf {entry}",
        "emptied": f"rm -rf {run.tree.path} && mkdir {run.tree.path}",
    }
    subprocess.run(["sh", "-c", commands[damage]], check=True)

    run.enter(tip=new)

    assert (run.tree.path / "code.py").read_text() == "kept\n"
    assert git("status", "--porcelain", "--branch", cwd=run.tree.path) == "## coord/r1"


def test_what_prepare_left_is_neither_cleaned_nor_committed(tmp_path: Path, checkout: Path):
    (checkout / "personal").write_text("*.mine\n")
    git("config", "core.excludesFile", str(checkout / "personal"), cwd=checkout)
    run = Run(tmp_path, checkout, prepare="make venv")
    base = run.enter()
    assert run.tree.needs_prepare
    (run.tree.path / ".venv").mkdir()
    (run.tree.path / ".venv" / "made").write_text("by prepare")
    (run.tree.path / "od[d] name").write_text("by prepare")
    (run.tree.path / "code.py").write_text("prepare has no business here")

    run.tree.mark_prepared()

    assert not run.tree.needs_prepare
    (run.tree.path / "new.py").write_text("by the todo")
    (run.tree.path / "notes.mine").write_text("excluded by the user's own file")
    own = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=run.tree.path,
        env=os.environ | run.tree.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert own.stdout == "?? new.py\n"
    new = run.tree.commit("T", "new file")
    assert git("diff", "--name-only", base, new, cwd=checkout) == "new.py"
    run.tree.leave()
    run.enter(tip=base)
    assert (run.tree.path / ".venv" / "made").exists()
    assert not run.tree.needs_prepare
    run.tree.leave()


def test_a_worktree_that_is_made_anew_is_prepared_anew(tmp_path: Path, checkout: Path):
    run = Run(tmp_path, checkout, prepare="make venv")
    run.enter()
    run.tree.mark_prepared()
    run.tree.leave()
    subprocess.run(["rm", "-rf", str(run.tree.path)], check=True)

    run.enter()

    assert run.tree.needs_prepare
    run.tree.leave()


def test_an_ended_run_leaves_its_branch_and_nothing_else(run: Run, checkout: Path, tmp_path: Path):
    run.enter()
    (run.tree.path / "code.py").write_text("x")
    new = run.tree.commit("T", "work")
    (run.tree.path / "read-only").mkdir()
    (run.tree.path / "read-only" / "module").write_text("as in Go's cache")
    (run.tree.path / "read-only").chmod(0o500)
    run.tree.leave()

    run.tree.remove(SOON)

    assert git("rev-parse", "coord/r1", cwd=checkout) == new
    assert git("worktree", "list", cwd=checkout).count("\n") == 0
    assert list((tmp_path / "state" / "worktrees").iterdir()) == []
    assert list((tmp_path / "state" / "workspaces").iterdir()) == []


def test_an_attempt_that_wakes_up_after_its_run_changes_nothing(run: Run, tmp_path: Path, checkout: Path):
    run.fence = 1  # granted to an attempt that was frozen before it came in
    run.enter()
    (run.tree.path / "code.py").write_text("x")
    new = run.tree.commit("T", "work")
    run.tree.leave()
    run.tree.remove(SOON)

    late = Worktree(state=tmp_path / "state", run="r1", repo=Repo(name="widgets"), checkout=checkout)
    with pytest.raises(Superseded):
        late.enter(LockRequest(run_id="r1", key="r1/T", fence=1), None, SOON)

    assert git("rev-parse", "coord/r1", cwd=checkout) == new


def test_a_commit_whose_settle_was_refused_is_taken_back(run: Run, checkout: Path):
    base = run.enter()
    (run.tree.path / "code.py").write_text("x")
    run.tree.commit("T", "work")
    run.tree.leave()

    run.tree.take_back(run.lock_request, None)

    assert git("rev-parse", "coord/r1", cwd=checkout) == base


def test_a_commit_is_not_taken_back_under_the_feet_of_a_newer_attempt(run: Run, checkout: Path):
    run.enter()
    (run.tree.path / "code.py").write_text("x")
    run.tree.commit("T", "work")
    run.tree.leave()
    older = run.lock_request
    run.enter()
    (run.tree.path / "code.py").write_text("y")
    newer = run.tree.commit("T", "work")
    run.tree.leave()

    with pytest.raises(Superseded):
        run.tree.take_back(older, None)
    run.tree.remove(SOON)
    with pytest.raises(Superseded):
        run.tree.take_back(older, None)

    assert git("rev-parse", "coord/r1", cwd=checkout) == newer


def test_a_worktree_in_use_is_not_removed_and_lets_nobody_in(run: Run, tmp_path: Path, checkout: Path):
    run.enter()
    second = Worktree(state=tmp_path / "state", run="r1", repo=Repo(name="widgets"), checkout=checkout)

    with pytest.raises(WorkspaceBusy, match=f"worker {os.getpid()}") as busy:
        second.enter(LockRequest(run_id="r1", key="k", fence=9), None, AT_ONCE)
    assert busy.value.holder == os.getpid()
    with pytest.raises(WorkspaceBusy):
        second.remove(AT_ONCE)


def test_runs_that_begin_at_the_same_time_do_not_meet(tmp_path: Path, checkout: Path):
    script = textwrap.dedent(
        """
        import sys
        from datetime import timedelta
        from pathlib import Path
        from coordination.models import Repo
        from workers.workspace.lock import LockRequest
        from workers.workspace.worktree import Worktree
        state, checkout, run = sys.argv[1:]
        tree = Worktree(state=Path(state), run=run, repo=Repo(name="widgets"), checkout=Path(checkout))
        for fence in range(1, 4):
            tip = tree.enter(LockRequest(run_id=run, key="k", fence=fence), None, timedelta(seconds=5))
            (tree.path / run).write_text(str(fence))
            tree.commit("T", "work")
            tree.leave()
            tree.remove(timedelta(seconds=5))
        """
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "state"), str(checkout)]

    processes = [subprocess.Popen([*arguments, f"r{n}"]) for n in range(4)]

    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    for n in range(4):
        assert git("show", f"coord/r{n}:r{n}", cwd=checkout) == "3"


def test_what_an_attempt_left_behind_is_gone_before_the_next_one_comes_in(run: Run, tmp_path: Path):
    # Given an attempt whose worker and guard were both killed: nobody holds the flock, and its command goes on.
    run.enter()
    env = os.environ | {orphans.KEY: "r1/T", orphans.FENCE: "1"}
    ours = subprocess.Popen(["sleep", "600"], env=env, start_new_session=True)
    later = subprocess.Popen(["sleep", "600"], env=env | {orphans.FENCE: "11"})
    run.tree._workspace_lock._release()

    try:
        run.enter()

        assert ours.wait(5) == -signal.SIGKILL
        assert later.poll() is None, "another attempt's process was killed"
    finally:
        for process in (ours, later):
            process.kill()
            process.wait()


def test_the_session_of_a_dead_attempt_is_known_by_where_it_works(run: Run, tmp_path: Path):
    run.enter()
    leader = subprocess.Popen(
        ["sh", "-c", f"env -i sleep 600 & echo $!; cd / && exec env -i sleep 600 {tmp_path}"],
        cwd=run.tree.path,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert leader.stdout is not None
    member = int(leader.stdout.readline())
    run.tree._workspace_lock.note(None, leader.pid)
    leader.kill()
    leader.wait()
    run.tree._workspace_lock._release()

    run.enter()

    until(
        lambda: (
            orphans.started(member) == "" or Path(f"/proc/{member}/stat").read_text().split(") ")[1][0] == "Z"
        )
    )


@pytest.mark.parametrize(
    ("prepare", "says", "hint"),
    [
        ("git branch coord", "branch named coord", "branch -m coord"),
        ("rm -rf .git && echo gitdir: /nowhere > .git", "does not accept", "git says"),
    ],
)
def test_what_git_would_refuse_is_said_beforehand(checkout: Path, prepare: str, says: str, hint: str):
    subprocess.run(["sh", "-c", prepare], cwd=checkout, check=True)

    with pytest.raises(GitRefused, match=says) as refused:
        common_dir_of("widgets", checkout)
    assert hint in refused.value.hint


@pytest.mark.parametrize("where", ["checkouts/w", "wid\ngets", "w\u2028\x0b\n"])
def test_a_path_with_any_character_is_found_and_worked_on(tmp_path: Path, checkout: Path, where: str):
    odd = tmp_path / f"odd {where}"
    odd.parent.mkdir(exist_ok=True)
    checkout.rename(odd)
    run = Run(odd, odd)

    found = common_dir_of("widgets", odd)
    run.enter()
    (run.tree.path / "new").write_text("new\n")
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


def test_a_folder_without_worktrees_is_refused_unless_in_place_is_said(checkout: Path, tmp_path: Path):
    plain, empty, inside = tmp_path / "plain", tmp_path / "empty", checkout / "inside"
    plain.mkdir()
    inside.mkdir()
    git("init", "--quiet", str(empty), cwd=tmp_path)

    for path, why in (
        (plain, "not a git repository"),
        (empty, "no commit yet"),
        (inside, "inside the repository"),
    ):
        make = {"state": tmp_path / "state", "run": "r1", "repo": Repo(name="it"), "checkout": path}
        with pytest.raises(GitRefused, match=why) as refused:
            workspace_for(wanted=Workspace.WORKTREE, **make)
        assert "workspace: in-place" in refused.value.hint
        assert isinstance(workspace_for(wanted=Workspace.IN_PLACE, **make), InPlace)


def test_in_place_nothing_is_cleaned_or_committed_but_one_works_at_a_time(checkout: Path, tmp_path: Path):
    (checkout / "code.py").write_text("uncommitted\n")
    repo = Repo(name="widgets")
    make = {"state": tmp_path / "state", "repo": repo, "checkout": checkout, "wanted": Workspace.IN_PLACE}
    first, second = workspace_for(run="r1", **make), workspace_for(run="r2", **make)
    before = fingerprint(checkout)

    first.enter(LockRequest(run_id="r1", key="k", fence=1), None, SOON)
    with pytest.raises(WorkspaceBusy):
        second.enter(LockRequest(run_id="r2", key="k", fence=2), None, AT_ONCE)
    assert first.commit("T", "nothing") == ""
    first.leave()
    second.enter(LockRequest(run_id="r2", key="k", fence=2), None, AT_ONCE)
    second.leave()

    assert fingerprint(checkout) == before
