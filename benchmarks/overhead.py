"""Measures the overhead of coord for a todo that does nothing: `python -m benchmarks.overhead [--todos N]`.

First the parts, each by itself in this process: the best of N rounds, how many times a plain `sh -c true`
that is, and how often git was called. Then whole runs of N todos `true` by `coord sweep`, one at a time: the
run's duration over N. `fresh worktree` is the first todo of a run in its repository, `same worktree` a later
one; in place there is no git.

To the right is the processor time of one todo, by /proc, which other work on the machine changes less:
`worker` is the worker's own Python (claim, settle, Celery, files), `children` the guard, the command and
git, `server` Redis. With more at once the processors are the limit: their number times 1000 over the sum is
how many empty todos end in a second.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.clock import seconds
from benchmarks.testbed import PLAN, Testbed, testbed
from coordination.backend.daemon import Daemon
from coordination.models import Repo, Workspace
from tests.testbed import git
from workers.process.child import start
from workers.workspace.base import InPlace
from workers.workspace.base import Workspace as Folder
from workers.workspace.change_set import BranchCopy, GitSessions, measure
from workers.workspace.lock import Claimant
from workers.workspace.repository import common_dir_of
from workers.workspace.worktree import Worktree

EMPTY = ("sh", "-c", "true")
PATIENCE = timedelta(seconds=10)
RUN = "bench"


class Parts:
    """Times of each part, in the order in which a todo meets them, and the calls of git in it."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self.git: dict[str, int] = {}
        self._git_calls = 0
        sys.addaudithook(self._count)

    def time(self, name: str, deed: Callable[[], object]) -> None:
        before = self._git_calls
        self.times.setdefault(name, []).append(seconds(deed))
        self.git[name] = self._git_calls - before

    def ms(self, name: str) -> float:
        return 1000 * min(self.times[name])

    def _count(self, event: str, arguments: tuple[Any, ...]) -> None:
        self._git_calls += event == "subprocess.Popen" and arguments[1][0] == "git"


def measure_parts(place: Testbed, repos: Sequence[str]) -> Parts:
    parts = Parts()
    for name in repos:
        visit(parts, place, name, "fresh", Workspace.WORKTREE, fence=1)
        visit(parts, place, name, "same", Workspace.WORKTREE, fence=2)
        visit(parts, place, name, "in place", Workspace.IN_PLACE, fence=3)
        parts.time("plain", lambda: subprocess.run(EMPTY, check=True))
    return parts


def visit(parts: Parts, place: Testbed, repo: str, kind: str, wanted: Workspace, fence: int) -> None:
    """One attempt as a worker makes it, without Redis: in, the command, what it changed, out."""
    lock_request = Claimant(run_id=RUN, key=f"{RUN}/{repo}", fence=fence)
    found: list[Folder] = []

    def enter() -> None:
        state, checkout = place.folder / "parts", place.folder / repo
        found.append(
            InPlace(state=state, path=checkout)
            if wanted is Workspace.IN_PLACE
            else Worktree(
                state=state,
                run=RUN,
                repo=Repo(name=repo),
                checkout=checkout,
                common_dir=common_dir_of(repo, checkout),
            )
        )
        found[0].enter(lock_request, None, PATIENCE)

    parts.time(f"enter {kind}", enter)
    here = found[0]
    parts.time(f"guard {kind}", lambda: guarded(here.path, here.hold.fd))
    parts.time(f"commit {kind}", lambda: here.commit("todo", "nothing"))
    if kind == "same":
        (here.path / "new").write_text(repo)
        parts.time("commit a file", lambda: here.commit("todo", "a file"))
        commit_with_hook(parts, place.folder / repo, here)
        keep_branch(parts, place.folder / repo, here)
    parts.time(f"leave {kind}", here.leave)


def commit_with_hook(parts: Parts, checkout: Path, here: Folder) -> None:
    """Time a commit with an empty hook: the hook's process, and the comparison of what it could change."""
    hook = checkout / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    (here.path / "hooked").write_text("x")
    parts.time("commit a file with a hook", lambda: here.commit("todo", "a file"))
    hook.unlink()


def keep_branch(parts: Parts, checkout: Path, here: Folder) -> None:
    """Time the upkeep of a change set's branch after one todo of several: its figures, and its move."""
    git_folder = checkout / ".git"
    sessions = GitSessions()
    copy = BranchCopy(checkout=checkout, common_dir=git_folder, branch="coord/PLAN", sessions=sessions)
    base, first = (git(checkout, "rev-parse", name) for name in ("main", f"coord/{RUN}"))
    record = git_folder / "bench-commits"
    before, after = base, first
    for number in range(4):

        def upkeep(before: str = before, after: str = after) -> None:
            assert len(measure(checkout, git_folder, base, before, after, record, sessions).split()) == 5
            assert not copy.move(after, None if before == base else before)

        parts.time("branch of the change set" if number else "branch, first todo", upkeep)
        (here.path / "newer").write_text(f"newer {number}")
        before, after = after, here.commit("todo", "another file")
    sessions.close()


def guarded(folder: Path, hold: int) -> None:
    child = start(
        EMPTY,
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        timeout=PATIENCE,
        kill_grace=PATIENCE,
        on_output=lambda _: None,
        hold=hold,
    )
    assert child.wait().ok


def whole(place: Testbed, repos: Sequence[str], n: int, wanted: Workspace) -> tuple[float, ...]:
    """Milliseconds per todo of a run of `n` empty todos: by the clock, then of processor time (see
    `processor_s`).
    """
    todos = [
        {
            "id": f"t{i}",
            "task": "nothing",
            "repo": repos[i % len(repos)],
            "action": "true",
            "workspace": str(wanted),
        }
        for i in range(n)
    ]
    place.declare(repos, todos)
    place.coord("up", "--detach", "--no-flower")
    before = processor_s(place)
    run = place.ask("sweep", PLAN, "--strategy", "dataflow", "--jobs", "1")
    used = [after - at_first for at_first, after in zip(before, processor_s(place), strict=True)]
    place.coord("down")
    return tuple(1000 * s / n for s in (run["duration_s"], *used))


def processor_s(place: Testbed) -> tuple[float, float, float]:
    """Seconds that the worker has used, its children, and the server."""
    own, children = times(Daemon(place.state, "worker"))
    server, _ = times(Daemon(place.state, "server"))
    return own, children, server


def times(daemon: Daemon) -> tuple[float, float]:
    record = daemon.running()
    assert record is not None
    fields = Path(f"/proc/{record.pid}/stat").read_text().rpartition(") ")[2].split()
    user, system, children_user, children_system = (
        int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:15]
    )
    return user + system, children_user + children_system


def main(n: int) -> None:
    repos = [f"repo-{i}" for i in range(n)]
    with testbed() as place:
        place.plant(repos)
        parts = measure_parts(place, repos)
        print_parts(parts)
        print(
            f"\n{f'{n} todos by coord sweep':<28}    clock   to plain   processor:  worker  children  server"
        )
        for title, wanted, there in (
            ("fresh worktree", Workspace.WORKTREE, repos),
            ("same worktree", Workspace.WORKTREE, repos[:1]),
            ("in place", Workspace.IN_PLACE, repos[:1]),
        ):
            clock, own, children, server = whole(place, there, n, wanted)
            ratio = f"{clock / parts.ms('plain'):8.1f} x"
            print(
                f"{title:<28} {clock:7.1f} ms {ratio} {own:16.1f} ms {children:5.1f} ms {server:4.1f} ms",
                flush=True,
            )


def print_parts(parts: Parts) -> None:
    print("part                               best   to plain   git calls")
    for title, name in (
        ("sh -c true, plain", "plain"),
        ("sh -c true under the guard", "guard in place"),
        ("into a fresh worktree", "enter fresh"),
        ("into the same worktree", "enter same"),
        ("commit, nothing changed", "commit same"),
        ("commit, one new file", "commit a file"),
        ("commit with an empty hook", "commit a file with a hook"),
        ("branch, first todo", "branch, first todo"),
        ("branch of the change set", "branch of the change set"),
        ("into the path itself", "enter in place"),
    ):
        print(
            f"{title:<28} {parts.ms(name):7.1f} ms {parts.ms(name) / parts.ms('plain'):8.1f} x "
            f"{parts.git[name]:9}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--todos", type=int, default=100, metavar="N")
    main(parser.parse_args().todos)
