"""Nothing that a command started is alive after it, nor when the next attempt enters: promise 2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.models import Repo
from tests.commands import BRIEF, LONG, Started, alive, gone, python, sh
from tests.testbed import FORKS, git
from tests.waiting import until
from tests.worktrees import Run, claimant
from workers.process import child, orphans
from workers.process.orphans import new_mark, started
from workers.workspace.lock import WorkspaceLock
from workers.workspace.worktree import Worktree

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a child subreaper and /proc")

DAEMON = """
    import os, sys, time, signal
    ready, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(1, b"%d\\n" % os.getpid())
            os.write(tell, b".")
            time.sleep(600)
        os._exit(0)
    os.read(ready, 1)
"""
"""A daemon as in the books: two forks and a session of its own. It keeps the output open and ignores TERM."""


def test_background_processes_end_with_their_command_at_once(start: type[Started]):
    leaver = start(*sh("sleep 600 & echo $!; exit 4"))

    ended = leaver.end(timeout_s=60)

    assert (ended.exit_code, ended.reason) == (4, "exited")
    assert gone(*leaver.pids(1))


@linux
@pytest.mark.parametrize("stopped", [False, True], ids=["ended by itself", "cancelled"])
def test_a_daemon_that_forked_twice_and_left_the_session_is_gone(start: type[Started], stopped: bool):
    daemon = start(*python(DAEMON + ("\n    time.sleep(600)" if stopped else "")), kill_grace=BRIEF)
    if stopped:
        daemon.pids(1)
        daemon.child.stop("cancelled")

    ended = daemon.end()

    assert (ended.exit_code, ended.reason) == ((None, "cancelled") if stopped else (0, "exited"))
    assert gone(*daemon.pids(1))


def test_all_processes_of_a_command_end_with_a_killed_guard(start: type[Started]):
    env = os.environ | {orphans.KEY: f"test/{os.getpid()}/{time.monotonic_ns()}", orphans.FENCE: "1"}
    family = start(*sh("setsid sleep 600 & echo $!; sleep 600 & echo $!; echo $$; wait"), env=env)
    pids = family.pids(3)
    assert family.child.guard is not None

    os.kill(family.child.guard, signal.SIGKILL)

    ended = family.end()
    assert (ended.exit_code, ended.reason) == (None, "guard lost")
    assert "killed from outside" in ended.message
    assert gone(*pids)


ROUNDS = 3

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
    from tests.worktrees import claimant
    from workers.workspace.lock import WorkspaceLock
    records, workspace, command = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    there = WorkspaceLock(records, workspace)
    there.enter(claimant("r", 1), timedelta(0))
    long = timedelta(seconds=60)
    child = start(["sh", "-c", command], cwd=workspace, env=os.environ, timeout=long, kill_grace=long,
                  on_output=lambda data: None, hold=there.hold.fd, mark=there.mark)
    there.note(child.guard, child.group)
    print(child.guard, flush=True)
    child.wait()
"""


@pytest.fixture
def told() -> Iterator[Callable[[Path], int]]:
    """The pid of the escaped process, as soon as it has written it; a test that fails leaves none."""
    pids: dict[int, str] = {}

    def read(file: Path) -> int:
        until(file.exists)
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


@linux
def test_promise_2_a_child_with_an_empty_environment_and_session_ends_with_a_killed_guard(
    tmp_path: Path, strangers: list[subprocess.Popen[bytes]], told: Callable[[Path], int]
):
    strangers.append(subprocess.Popen(["prlimit", f"--locks={new_mark()}:", "sleep", "600"], cwd=tmp_path))
    for n in range(ROUNDS):
        file = tmp_path / f"escaped-{n}"
        body = child.start(
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


@linux
def test_promise_2_the_next_attempt_enters_when_the_child_of_a_killed_worker_and_guard_is_gone(
    tmp_path: Path, strangers: list[subprocess.Popen[bytes]], told: Callable[[Path], int]
):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    strangers.append(subprocess.Popen(["sleep", "600"], cwd=workspace))  # somebody who looks around there
    for n in range(ROUNDS):
        file, records = tmp_path / f"escaped-{n}", tmp_path / f"records-{n}"
        script = textwrap.dedent(WORKER)
        command = [sys.executable, "-c", script, str(records), str(workspace), ESCAPES.format(told=file)]
        worker = FORKS.piped(command, env={"PATH": os.environ["PATH"]})
        guard = int(worker.stdout.readline())
        escaped = told(file)
        begun = started(escaped)

        os.kill(guard, signal.SIGSTOP)  # so that neither has the time to see the other's end
        worker.kill()
        os.kill(guard, signal.SIGKILL)
        worker.wait()
        assert started(escaped) == begun, "it did not outlive both: nothing is tested"
        there = WorkspaceLock(records, workspace)
        there.enter(claimant("r", 2), LONG)

        assert not alive(escaped), f"round {n}"
        there.leave()
    assert strangers[0].poll() is None


@linux
def test_processes_of_a_dead_attempt_end_before_the_next_one_enters(run: Run, tmp_path: Path):
    # Given an attempt whose worker and guard were both killed: nobody holds the flock, and its command goes
    # on.
    run.enter()
    env = os.environ | {orphans.KEY: run.claimant.key, orphans.FENCE: "1"}
    ours = subprocess.Popen(["sleep", "600"], env=env, start_new_session=True)
    later = subprocess.Popen(["sleep", "600"], env=env | {orphans.FENCE: "11"})
    run.tree._workspace_lock._release()

    try:
        run.enter()

        assert ours.wait(60) == -signal.SIGKILL
        assert later.poll() is None, "another attempt's process was killed"
    finally:
        for process in (ours, later):
            process.kill()
            process.wait()


@linux
def test_the_session_of_a_dead_attempt_is_known_by_its_folder(run: Run, tmp_path: Path):
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


ANN = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")


FILTER = """#!/bin/sh
[ -e {told} ] || {{
    env -i setsid sh -c 'cd /; echo $$ > {told}.new; mv {told}.new {told}; {lets_go}
                         while :; do sleep 0.05; done' &
    until [ -e {told} ]; do sleep 0.02; done
}}
exec cat
"""


@linux
@pytest.mark.parametrize(
    "lets_go", ["exec 0<&- 1>&- 2>&-;", "exec 0<&- 1>&-;"], ids=["lets go", "keeps an output"]
)
def test_promise_2_a_process_that_a_git_filter_left_ends_with_the_attempt(
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
    tree.enter(claimant("r", 1), None, LONG)
    git(checkout, "config", "filter.leaves.clean", str(script))
    (tree.path / ".gitattributes").write_text("work filter=leaves\n")
    (tree.path / "work").write_text("done\n")

    tree.commit("T", "work")
    escaped = told(file)
    assert alive(escaped) or "2>" not in lets_go
    tree.leave()

    assert not alive(escaped)
    tree.enter(claimant("r", 2, "T2"), None, timedelta(0))
    tree.leave()


@linux
def test_promise_2_git_is_marked_before_it_starts_any_process(run: Run, tmp_path: Path):
    run.enter()
    hold = run.tree._workspace_lock.hold
    script = tmp_path / "bin" / "git"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\nexec cat /proc/self/limits\n")
    script.chmod(0o755)

    command = hold.marked(["git", "status"], {"PATH": f"{script.parent}:{os.environ['PATH']}"})

    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    limit = orphans.LIMIT_OF_LOCKS.search(shown.stdout)
    assert limit is not None
    assert int(limit[1]) == run.tree._workspace_lock.mark
    assert shown.stderr == ""


@linux
def test_a_process_that_ends_before_it_is_killed_is_no_error(tmp_path: Path):
    gone = subprocess.Popen(["true"])
    gone.wait()

    orphans._kill(gone.pid, orphans.ProcessMarker(key="r/T", fence="1", workspace=tmp_path))
