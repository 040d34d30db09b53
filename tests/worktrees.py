"""A checkout, and the worktrees of runs on it."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from coordination.models import Repo
from workers.workspace.lock import Claimant
from workers.workspace.worktree import Worktree

AT_ONCE = timedelta(0)
SOON = timedelta(seconds=5)
ANN = ("user.name=Ann", "user.email=ann@example.org")
UNIQUE = f"{secrets.randbelow(10**6):06}-{secrets.token_hex(2)}"
"""Part of the keys of attempts and ids of runs. Processes of attempts with equal keys and fences are taken
for those of one attempt, also where tests in two processes made them.
"""


def run_id(day: int = 1) -> str:
    """Return the id of a run of that day that no other test process has."""
    return f"202601{day:02}-{UNIQUE}"


def claimant(run: str, fence: int, todo: str = "T") -> Claimant:
    """Return the request of an attempt for a workspace, with a key that no other test process has."""
    return Claimant(run_id=run, key=f"{UNIQUE}/{run}/{todo}", fence=fence)


def git(*args: str, cwd: Path, settings: Sequence[str] = (), stdin: str = "") -> str:
    """Run a person's git; return its output without the last line end."""
    words = [word for setting in settings for word in ("-c", setting)]
    done = subprocess.run(
        ["git", *words, *args],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=True,
    )
    return done.stdout.removesuffix("\n")


def make_checkout(path: Path) -> Path:
    path.mkdir(parents=True)
    git("init", "--quiet", "--initial-branch=main", cwd=path)
    (path / ".gitignore").write_text("*.cache\n")
    save(path, "first", **{"code.py": "one = 1\n"})
    return path


def save(path: Path, subject: str, **files: str) -> str:
    """Commit all changes, and these files; return the commit."""
    for name, text in files.items():
        (path / name).write_text(text)
    git("add", "--all", cwd=path)
    git("commit", "--quiet", "-m", subject, cwd=path, settings=ANN)
    return git("rev-parse", "HEAD", cwd=path)


class Run:
    """One run's worktree of the checkout; each `enter` is an attempt with the next fence."""

    def __init__(self, tmp_path: Path, checkout: Path, run: str = "r1", prepare: str | None = None) -> None:
        self.tree = Worktree(
            state=tmp_path / "state", run=run, repo=Repo(name="widgets", prepare=prepare), checkout=checkout
        )
        self.run = run
        self.fence = 0

    def enter(self, tip: str | None = None, patience: timedelta = SOON) -> str:
        self.fence += 1
        self.claimant = claimant(self.run, self.fence)
        return self.tree.enter(self.claimant, tip, patience)

    def log(self, form: str = "%s") -> list[str]:
        return git("log", f"--format={form}", self.tree.branch, cwd=self.tree.path).splitlines()

    def write(self, text: str, file: str = "code.py") -> None:
        (self.tree.path / file).write_text(text)

    def work(self, text: str) -> str:
        """Make a whole attempt that changes code.py; return its commit."""
        self.enter()
        self.write(text)
        new = self.tree.commit("T", "work")
        self.tree.leave()
        return new
