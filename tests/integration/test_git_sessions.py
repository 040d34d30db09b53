"""A git process that stays open answers as one that is started for each question, and is never relied on."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.git import NOBODY
from tests.worktrees import git, save
from workers.workspace import change_set
from workers.workspace import change_set as git_sessions
from workers.workspace.change_set import BranchCopy, GitSessions


@pytest.fixture
def processes() -> Callable[[], list[int]]:
    """Return the git processes that stay open, without those of other tests in this process."""
    before = frozenset(open_sessions())
    return lambda: [pid for pid in open_sessions() if pid not in before]


@pytest.fixture
def sessions(processes: Callable[[], list[int]]) -> Iterator[GitSessions]:
    sessions = GitSessions(within=timedelta(seconds=30))
    yield sessions
    sessions.close()
    assert not processes()


@pytest.fixture
def copy(checkout: Path, sessions: GitSessions) -> BranchCopy:
    """Return the branch of a change set, which has one commit."""
    made = BranchCopy(checkout=checkout, common_dir=checkout / ".git", branch="coord/P", sessions=sessions)
    assert not made.move(save(checkout, "first", code="1\n2\n"))
    return made


def open_sessions() -> list[int]:
    """Return the children of this process that are a git."""
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    children = [int(word) for word in file.read_text().split()]
    return [pid for pid in children if b"--stdin" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def move(copy: BranchCopy, **files: str) -> tuple[str, str]:
    """Move the branch by a new commit; return why it stays, and the commit."""
    before = copy.read().head
    commit = save(copy.checkout, "next", **files)
    return copy.move(commit, before), commit


def measured(copy: BranchCopy, base: str, tip: str, tmp_path: Path) -> str:
    record = tmp_path / "commits"
    told = change_set.measure(copy.checkout, copy.common_dir, base, base, tip, record, copy.sessions)
    assert told == change_set.measure(copy.checkout, copy.common_dir, base, base, tip, record)
    return told


def test_one_process_serves_the_todos_of_a_repository(
    copy: BranchCopy, tmp_path: Path, processes: Callable[[], list[int]]
):
    base, tips = git("rev-parse", "main", cwd=copy.checkout), []
    for number in range(3):
        why, tip = move(copy, code=f"{number}\n", **{f"new{number}": "1\n"})
        assert why == ""
        assert copy.read().head == copy.read().left == tip
        assert measured(copy, base, tip, tmp_path)
        tips.append(tip)
        if number == 0:  # whatever people do meanwhile
            git("pack-refs", "--all", cwd=copy.checkout)
            git("gc", "--quiet", cwd=copy.checkout)
    undone = git(
        "commit-tree", f"{base}^{{tree}}", "-p", tips[-1], "-m", "undo", cwd=copy.checkout, settings=NOBODY
    )

    assert [measured(copy, base, tip, tmp_path).partition(" ")[2] for tip in (*tips, undone)] == [
        "1 2 2 2", "2 3 2 1", "3 4 3 1", "4 0 0 0",
    ]  # fmt: skip
    assert len(processes()) == 2, "one for the figures, one for the branch"
    assert measured(copy, "0" * 40, undone, tmp_path) == "0" * 40
    assert "coord/P" in git("log", "-1", "-g", "--format=%gd", "coord/P", cwd=copy.checkout)


def test_a_branch_that_a_person_moved_or_locked_stays_with_the_reason(copy: BranchCopy):
    ours = copy.read().head
    git("branch", "--force", "coord/P", "main~1", cwd=copy.checkout)
    theirs = copy.read().head
    why = copy.move(save(copy.checkout, "next", code="3\n"), ours)

    assert "a person has moved it" in why
    assert copy.read().head == theirs
    git("branch", "--force", "coord/P", ours, cwd=copy.checkout)
    lock = copy.common_dir / "refs/heads/coord/P.lock"
    lock.touch()
    assert str(lock) in copy.move(save(copy.checkout, "next", code="4\n"), ours)
    assert copy.read().head == ours
    lock.unlink()
    assert move(copy, code="5\n")[0] == "", "a process that was refused is not asked again"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_killed_or_hangs_is_replaced(
    copy: BranchCopy,
    sessions: GitSessions,
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    processes: Callable[[], list[int]],
):
    base = git("rev-parse", "main", cwd=copy.checkout)
    _, tip = move(copy, code="3\n")
    measured(copy, base, tip, tmp_path)
    for pid in processes():
        os.kill(pid, number)
    monkeypatch.setattr(sessions, "_within_s", 0.5)
    why, tip = move(copy, code="4\n")

    assert why == ""
    assert copy.read().head == tip
    assert measured(copy, base, tip, tmp_path) == f"{base} 2 1 1 2"


def test_another_repository_at_the_path_gets_a_process_of_its_own(copy: BranchCopy, tmp_path: Path):
    move(copy, code="3\n")
    restored = tmp_path / "backup"
    shutil.copytree(copy.checkout, restored)
    shutil.rmtree(copy.checkout)
    restored.rename(copy.checkout)
    why, tip = move(copy, code="4\n")

    assert why == ""
    assert copy.read().head == tip
    shutil.rmtree(copy.checkout)
    assert "is not a folder" in copy.move(tip, tip)


def test_idle_processes_end(
    copy: BranchCopy,
    sessions: GitSessions,
    monkeypatch: pytest.MonkeyPatch,
    processes: Callable[[], list[int]],
):
    move(copy, code="3\n")
    sessions.close_idle()
    assert len(processes()) == 1
    monkeypatch.setattr(git_sessions, "IDLE_S", -1.0)
    sessions.close_idle()
    assert not processes()
    assert move(copy, code="4\n")[0] == ""
