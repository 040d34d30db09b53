"""Promise 2 when the guard is killed: nothing that a body started is alive when the next attempt enters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.models import Repo
from tests.stage import git
from tests.waiting import until
from workers.process.child import start
from workers.process.orphans import FENCE, KEY, new_mark, started
from workers.workspace.lock import LockRequest, WorkspaceLock
from workers.workspace.worktree import Worktree

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

ROUNDS = 8
LONG = timedelta(seconds=60)
ESCAPES = (
    "env -i setsid sh -c 'cd /; echo $$ > {told}.new; mv {told}.new {told}; "
    "exec 0<&- 1>&- 2>&- 3>&- 4>&- 5>&-; while :; do sleep 0.05; done' & "
    "exec sleep 600"
)
"""No environment, a session of its own, another folder and no inherited file: nothing of the attempt but its
mark.
"""

WORKER = """
    import os, sys
    from datetime import timedelta
    from pathlib import Path
    from workers.process.child import start
    from workers.workspace.lock import WorkspaceLock, LockRequest
    records, workspace, command = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    there = WorkspaceLock(records, workspace)
    there.enter(LockRequest(run_id="r", key="r/T", fence=1), timedelta(0))
    long = timedelta(seconds=60)
    child = start(["sh", "-c", command], cwd=workspace, env=os.environ, timeout=long, kill_grace=long,
                  on_output=lambda data: None, hold=there.hold.fd, mark=there.mark)
    there.note(child.guard, child.group)
    print(child.guard, flush=True)
    child.wait()
"""


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout.strip()[:1] not in ("", "Z")


@pytest.fixture
def told() -> Iterator[Callable[[Path], int]]:
    """The pid of the escaped process, as soon as it has written it; a test that fails leaves none."""
    pids: dict[int, str] = {}

    def read(file: Path) -> int:
        until(file.exists, 30)
        pid = int(file.read_text())
        pids[pid] = started(pid)
        return pid

    yield read
    for pid, begun in pids.items():
        if alive(pid) and started(pid) == begun:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def strangers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are not ours and look alike: in the workspace, or with the mark of another attempt."""
    made: list[subprocess.Popen[bytes]] = []
    yield made
    for one in made:
        one.kill()
        one.wait()


def test_promise_2_a_child_with_an_empty_environment_and_session_ends_with_a_killed_guard(
    tmp_path: Path, strangers: list[subprocess.Popen[bytes]], told: Callable[[Path], int]
):
    strangers.append(subprocess.Popen(["prlimit", f"--locks={new_mark()}:", "sleep", "600"], cwd=tmp_path))
    for n in range(ROUNDS):
        file = tmp_path / f"escaped-{n}"
        body = start(
            ["sh", "-c", ESCAPES.format(told=file)],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            timeout=LONG,
            kill_grace=LONG,
            on_output=lambda data: None,
        )
        escaped = told(file)
        assert body.guard is not None

        os.kill(body.guard, signal.SIGKILL)

        assert body.wait().reason == "guard lost"
        assert not alive(escaped), f"round {n}"
    assert strangers[0].poll() is None


def test_promise_2_when_worker_and_guard_are_killed_the_next_attempt_waits_for_the_end_of_their_child(
    tmp_path: Path, strangers: list[subprocess.Popen[bytes]], told: Callable[[Path], int]
):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    strangers.append(subprocess.Popen(["sleep", "600"], cwd=workspace))  # somebody who looks around there
    for n in range(ROUNDS):
        file, records = tmp_path / f"escaped-{n}", tmp_path / f"records-{n}"
        script = textwrap.dedent(WORKER)
        command = [sys.executable, "-c", script, str(records), str(workspace), ESCAPES.format(told=file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}) as worker:
            assert worker.stdout is not None
            guard = int(worker.stdout.readline())
            escaped = told(file)
            begun = started(escaped)

            os.kill(guard, signal.SIGSTOP)  # so that neither has the time to see the other's end
            worker.kill()
            os.kill(guard, signal.SIGKILL)
        assert started(escaped) == begun, "it did not outlive both: nothing is tested"
        there = WorkspaceLock(records, workspace)
        there.enter(LockRequest(run_id="r", key="r/T", fence=2), LONG)

        assert not alive(escaped), f"round {n}"
        there.leave()
    assert strangers[0].poll() is None


ANN = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
FILTER = """#!/bin/sh
[ -e {told} ] || {{
    env -i setsid sh -c 'cd /; echo $$ > {told}.new; mv {told}.new {told}; {lets_go} while :; do sleep 0.05; done' &
    until [ -e {told} ]; do sleep 0.02; done
}}
exec cat
"""


@pytest.mark.parametrize(
    "lets_go", ["exec 0<&- 1>&- 2>&-;", "exec 0<&- 1>&-;"], ids=["lets go", "keeps an output"]
)
def test_promise_2_what_a_git_filter_leaves_behind_ends_with_the_attempt(
    tmp_path: Path, told: Callable[[Path], int], lets_go: str
):
    """git runs filters for `git add`, `git status`, `git reset`: under no guard."""
    checkout, state, file, script = (tmp_path / name for name in ("up", "state", "told", "filter"))
    checkout.mkdir()
    git(checkout, "init", "-q", "-b", "main")
    git(checkout, *ANN, "commit", "-q", "--allow-empty", "-m", "first")
    script.write_text(FILTER.format(told=file, lets_go=lets_go))
    script.chmod(0o755)
    tree = Worktree(state=state, run="r", repo=Repo(name="up", path=str(checkout)), checkout=checkout)
    tree.enter(LockRequest(run_id="r", key="r/T", fence=1), None, LONG)
    git(checkout, "config", "filter.leaves.clean", str(script))
    (tree.path / ".gitattributes").write_text("work filter=leaves\n")
    (tree.path / "work").write_text("done\n")

    tree.commit("T", "work")
    escaped = told(file)
    assert alive(escaped) or "2>" not in lets_go
    tree.leave()

    assert not alive(escaped)
    tree.enter(LockRequest(run_id="r", key="r/T2", fence=2), None, timedelta(0))
    tree.leave()


def test_a_process_of_a_later_attempt_is_no_rest_of_this_one(
    tmp_path: Path, strangers: list[subprocess.Popen[bytes]]
):
    there = WorkspaceLock(tmp_path / "records", tmp_path)
    there.enter(LockRequest(run_id="r", key="r/T", fence=1), LONG)
    later = {KEY: "r/T", FENCE: "11"}
    strangers.append(subprocess.Popen(["sleep", "600"], env=os.environ | later, cwd=tmp_path))

    there.leave()

    assert strangers[0].poll() is None
