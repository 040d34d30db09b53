"""One command under its guard: how it ended, its output, and how it is stopped. Real processes throughout."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.commands import BRIEF, LONG, STUBBORN, Started, alive, gone, python, sh
from tests.waiting import until
from workers.process import child

LINUX = sys.platform.startswith("linux")


def test_a_command_ends_with_its_exit_code_or_signal_and_both_outputs_are_passed_on_unchanged(
    start: type[Started],
):
    done, killed = start(*sh(r"printf 'out \377\0'; printf err >&2; exit 3")), start(*sh("kill -USR1 $$"))

    ended = done.end()

    assert (ended.exit_code, ended.signal, ended.reason) == (3, None, "exited")
    assert not ended.ok
    assert done.output == b"out \xff\0err"
    assert 0 < ended.duration_s < 60
    ended = killed.end()
    assert (ended.exit_code, ended.signal, ended.reason) == (None, signal.SIGUSR1, "exited")


def test_the_command_gets_its_environment_and_folder_and_nothing_else(start: type[Started], tmp_path: Path):
    done = start("env", cwd=tmp_path, env={"PATH": os.environ["PATH"], "MINE": "1", "LANG": "C"})
    assert done.end().ok
    assert sorted(done.output.decode().split()) == sorted([f"PATH={os.environ['PATH']}", "MINE=1", "LANG=C"])
    folder = start(*sh("pwd"), cwd=tmp_path)
    assert folder.end().ok
    assert folder.output.decode().strip() == str(tmp_path)


LIBC_OWN = 1 << 31 | 1 << 32

"""Signals 32 and 33 belong to the C library: if the tests were started with them ignored, nobody can change
that.
"""


@pytest.mark.skipif(not LINUX, reason="/proc")
def test_the_command_inherits_no_descriptor_and_no_ignored_signal(start: type[Started], tmp_path: Path):
    with (tmp_path / "lock").open("w") as lock:
        done = start(*sh("ls /proc/self/fd; grep -E 'Sig(Ign|Blk)' /proc/self/status"), hold=lock.fileno())
        assert done.end().ok
    *descriptors, _, blocked, _, ignored = done.output.decode().split()
    assert descriptors == ["0", "1", "2", "3"]
    assert int(blocked, 16) == 0
    assert int(ignored, 16) & ~LIBC_OWN == 0


def test_standard_input_is_passed_and_blocks_no_command_that_does_not_read_it(start: type[Started]):
    reader = start("cat", stdin=b"hello \xff")
    ignorer = start("true", stdin=b"x" * 20_000_000)
    nothing = start("cat")

    assert reader.end().ok
    assert ignorer.end().ok
    assert nothing.end().ok
    assert reader.output == b"hello \xff"


def test_a_command_that_cannot_be_started_ends_with_the_cause(start: type[Started], tmp_path: Path):
    script = tmp_path / "script"
    script.write_text("no first line")
    unreadable = start(str(script))
    script_2 = tmp_path / "script2"
    script_2.write_text("no first line")
    script_2.chmod(0o755)
    cases = {
        "not found": (start("no-such-command-at-all"), 127),
        "Permission denied": (unreadable, 126),
        "#!/bin/sh": (start(str(script_2)), 126),
        "cannot enter": (start("true", cwd=tmp_path / "gone"), 126),
        "null byte": (start("echo", "\0"), 126),
        "too long": (start("echo", "x" * 4_000_000), 126),
    }
    for says, (started, code) in cases.items():
        ended = started.end()
        assert (ended.exit_code, ended.reason) == (code, "exited"), says
        assert says in ended.message
        assert started.output == b"", "the attempt writes the message into the log"


def test_a_command_that_never_ends_is_ended_by_its_timeout(start: type[Started]):
    ended = start("sleep", "600", timeout=BRIEF).end()

    assert (ended.exit_code, ended.signal, ended.reason) == (None, signal.SIGTERM, "timeout")


def test_a_command_that_ignores_term_is_killed_after_the_grace(start: type[Started]):
    stubborn = start(*sh(STUBBORN), kill_grace=BRIEF)
    stubborn.pids(1)
    began = time.monotonic()

    stubborn.child.stop("cancelled")

    ended = stubborn.end()
    assert (ended.signal, ended.reason) == (signal.SIGKILL, "cancelled")
    assert time.monotonic() - began >= BRIEF.total_seconds()


SECOND = (
    "trap 'n=$((n+1)); echo term $n; [ $n -lt 2 ] || exit 7' TERM; n=0; echo 0; while :; do sleep 0.05; done"
)
"""A command that ends at its second TERM."""


def test_an_agent_gets_a_second_term_and_any_other_command_one(start: type[Started]):
    agent = start(*sh(SECOND), terms=2, kill_grace=timedelta(seconds=8))
    other = start(*sh(SECOND), kill_grace=BRIEF)
    agent.pids(1)
    other.pids(1)

    agent.child.stop("cancelled")
    other.child.stop("cancelled")

    ended = agent.end()
    assert (ended.exit_code, ended.reason) == (7, "cancelled")
    assert agent.output.count(b"term") == 2
    ended = other.end()
    assert (ended.signal, ended.reason) == (signal.SIGKILL, "cancelled")
    assert other.output.count(b"term") == 1


def test_an_agent_that_ignores_both_terms_is_killed_after_the_grace(start: type[Started]):
    stubborn = start(*sh(STUBBORN), terms=2, kill_grace=BRIEF)
    stubborn.pids(1)
    began = time.monotonic()

    stubborn.child.stop("cancelled")

    assert stubborn.end().signal == signal.SIGKILL
    assert time.monotonic() - began >= BRIEF.total_seconds()


def test_kill_does_not_wait_for_the_grace_and_the_first_reason_counts(start: type[Started]):
    stubborn = start(*sh(STUBBORN))
    stubborn.pids(1)
    stubborn.child.stop("worker stops")

    stubborn.child.kill()

    ended = stubborn.end(timeout_s=60)
    assert (ended.signal, ended.reason) == (signal.SIGKILL, "worker stops")


def test_a_command_may_tidy_up_when_it_is_stopped_and_the_first_reason_counts(start: type[Started]):
    tidy = start(*sh("trap 'echo tidied; exit 9' TERM; echo 0; while :; do sleep 0.05; done"))
    tidy.pids(1)

    tidy.child.stop("cancelled")
    tidy.child.stop("lost lease")

    ended = tidy.end()
    assert (ended.exit_code, ended.reason) == (9, "cancelled")
    assert tidy.output.endswith(b"tidied\n")


def test_stop_after_the_end_changes_nothing(start: type[Started]):
    done = start("true")
    first = done.end()

    done.child.stop("too late")
    done.child.kill()

    assert done.child.wait() == first
    assert first.reason == "exited"


def test_a_command_that_closes_its_output_and_goes_on_is_waited_for(start: type[Started], tmp_path: Path):
    os.mkfifo(tmp_path / "go on")
    quiet = start(*sh("echo last words; exec >&- 2>&-; read word < 'go on'; exit 7"), cwd=tmp_path)
    until(lambda: quiet.output == b"last words\n")

    (tmp_path / "go on").write_text("now\n")

    assert quiet.end().exit_code == 7


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard is not waited for as long as on a machine that is busy."""
    monkeypatch.setattr(child, "MARGIN_S", 3.0)


def test_a_command_that_stops_its_guard_is_ended_by_its_timeout(hurried: None, start: type[Started]):
    stops = "setsid sleep 600 & echo $!; echo $$; kill -STOP $PPID; sleep 600"
    stopper = start(*sh(stops), timeout=BRIEF, kill_grace=BRIEF)

    ended = stopper.end()

    assert (ended.exit_code, ended.reason, ended.ok) == (None, "timeout", False)
    assert "did not answer" in ended.message
    assert gone(*stopper.pids(2))


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_command_whose_guard_is_stopped_can_be_stopped(hurried: None, start: type[Started], how: str):
    stopper = start(*sh("setsid sleep 600 & echo $!; echo $$; sleep 600"), kill_grace=BRIEF)
    pids = stopper.pids(2)
    assert stopper.child.guard is not None
    os.kill(stopper.child.guard, signal.SIGSTOP)

    getattr(stopper.child, how)("cancelled")

    assert stopper.end().reason == "cancelled"
    assert gone(*pids)


def test_a_background_process_that_stops_the_guard_makes_no_success(hurried: None, start: type[Started]):
    waits = "trap 'kill -STOP $0; sleep 600' TERM; echo $$; while :; do sleep 0.05; done"
    leaver = start(
        *sh(f'sh -c "{waits.replace("$", chr(92) + "$")}" $PPID & sleep 0.5; exit 0'), kill_grace=BRIEF
    )

    ended = leaver.end()

    assert (ended.exit_code, ended.reason, ended.ok) == (0, "guard lost", False)
    assert gone(*leaver.pids(1))


def test_a_guard_that_is_stopped_at_its_start_is_given_up(
    start: type[Started], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(child, "START_S", 3.0)
    monkeypatch.setattr(child, "GUARD", "import os; os.kill(os.getpid(), 19)")

    ended = start("true").end()

    assert (ended.exit_code, ended.reason) == (None, "guard lost")
    assert "did not answer" in ended.message


def test_a_guard_that_goes_on_killing_is_left_alone(start: type[Started], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "MARGIN_S", 3.0)
    monkeypatch.setattr(child, "GUARD", SLOW_GUARD)

    ended = start("true", kill_grace=BRIEF, timeout=BRIEF).end()

    assert (ended.exit_code, ended.reason) == (0, "exited")


SLOW_GUARD = """
import os, sys, time
line = int(sys.argv[1])
os.write(line, b"started %d\\nended exited 0\\n" % os.getpid())
for _ in range(20):
    time.sleep(0.2)
    os.write(line, b"kills\\n")
os.write(line, b"gone\\n")
"""


def test_an_error_in_the_callback_kills_the_command_and_reaches_the_caller(tmp_path: Path):
    def full(_: bytes) -> None:
        raise OSError("disk full")

    begun = child.start(
        sh("echo $$; exec sleep 600"),
        cwd=tmp_path,
        env=os.environ,
        timeout=LONG,
        kill_grace=LONG,
        on_output=full,
    )
    with pytest.raises(OSError, match="disk full"):
        begun.wait()
    assert begun.group is not None
    assert gone(begun.group)


def test_the_guard_holds_the_lock_until_nothing_of_the_command_is_left(start: type[Started], tmp_path: Path):
    path = tmp_path / "lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = start(*sh(STUBBORN), hold=lock.fileno(), kill_grace=BRIEF)
        held.pids(1)
    assert not is_free(path), "the worker's own descriptor is closed, the guard's is not"

    held.child.stop("cancelled")

    held.end()
    assert is_free(path)


def is_free(path: Path) -> bool:
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


PLAYS_WORKER = """
    import os, resource, signal, sys
    from datetime import timedelta
    from pathlib import Path
    from workers.process import child
    def run(command, on_output):
        minute = timedelta(seconds=60)
        return child.start(["sh", "-c", command], cwd=Path("/"), env=os.environ, timeout=minute,
                           kill_grace=minute, on_output=on_output).wait()
    def show(data):
        os.write(1, data)
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process that plays the worker, in a process group of its own: it runs the command that it reads."""
    script = PLAYS_WORKER + (
        "\n    signal.signal(signal.SIGINT, lambda *_: show(b'interrupted\\n'))"
        "\n    print(run(sys.stdin.readline(), show), flush=True)"
    )
    process = subprocess.Popen(python(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
    yield process
    process.kill()
    process.communicate()


def tell(worker: subprocess.Popen[bytes], command: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(command.encode() + b"\n")
    worker.stdin.flush()


def test_when_the_worker_is_killed_no_child_of_it_stays_alive(worker: subprocess.Popen[bytes]):
    stubborn = "sh -c \"trap '' TERM INT HUP; while :; do sleep 0.05; done\""
    tell(
        worker,
        f"sleep 600 & echo $!; setsid sleep 600 & echo $!; {stubborn} & echo $!; echo $$; echo $PPID; wait",
    )
    assert worker.stdout is not None
    pids = [int(worker.stdout.readline()) for _ in range(5)]
    *family, _guard = pids
    assert all(alive(pid) for pid in pids)

    worker.kill()

    until(lambda: gone(*(pids if LINUX else [family[0], *family[2:]])))


def test_a_ctrl_c_of_the_worker_does_not_reach_the_command(worker: subprocess.Popen[bytes], tmp_path: Path):
    os.mkfifo(tmp_path / "go on")
    tell(worker, f"cd {tmp_path}; echo ready; read word < 'go on'; echo $word")
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"

    os.killpg(worker.pid, signal.SIGINT)

    assert worker.stdout.readline() == b"interrupted\n"
    (tmp_path / "go on").write_text("unharmed\n")
    assert worker.stdout.readline() == b"unharmed\n"
    assert b"exit_code=0" in worker.stdout.readline()


def test_100_mb_of_output_pass_through_and_memory_stays_flat():
    script = PLAYS_WORKER + (
        """
    size = 0
    def count(data):
        global size
        size += len(data)
    run("true", count)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    before = peak()
    ended = run("head -c 100000000 /dev/zero", count)
    print(ended.exit_code, size, peak() - before)
    """
    )
    printed = subprocess.run(
        python(script), capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()

    assert printed[:2] == ["0", "100000000"]
    assert int(printed[2]) < 60_000_000  # a guard that kept the output would need 100 MB


def test_twenty_commands_at_once_end_right(start: type[Started]):
    many = [start(*sh(f"echo {n}; exit {n}")) for n in range(20)]

    assert [one.end(60).exit_code for one in many] == list(range(20))
    assert [one.output for one in many] == [f"{n}\n".encode() for n in range(20)]
