"""Run one command of a todo under a guard, from the worker's side.

Start it, pass its output on, report its end.

`start` returns once the command runs, or could not be started: that is an outcome, never an exception. `wait`
pumps the output in the calling thread, so a slow callback slows the command, and memory stays flat. `stop`
and `kill` may be called from any thread, at any time. `guard.py` says which processes are killed, and when.

A guard that does not end its command in time (a todo can stop it: `kill -STOP $PPID`) is killed MARGIN_S
later, and the processes that it guarded are ended by their mark. A guard that kills processes which take long
to die reports that, and is left alone.

Measured on 2 shared cores, median of 100 runs of `true`: 15 ms under a guard, 1 ms without (most of it the
start of the guard's Python). 100 MB of output take 0.6 s.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import IO

from coordination import sandbox_limits
from coordination.sandbox_limits import OVER, SandboxLimits
from workers.process import guard, orphans
from workers.process.trouble import WorkspaceUnusable, trouble_of_error

CHUNK = 64 * 1024
DRAIN_S = 1.0
"""How long output is read after the guard's end: only processes that it may not kill can still write."""
CLEAR_UP = timedelta(seconds=5)
MARGIN_S = 10.0
"""How late a guard may be on a busy machine before it is killed."""
START_S = 60.0
"""The most time that the start of a command may take."""
LOOK_EVERY_S = 1.0
"""How often the deadline is checked, because another thread may bring it forward."""
GUARD_LOST = "guard lost"
GUARD = (
    "import sys; "
    f"sys.path += [{str(Path(guard.__file__).parent)!r}, {str(Path(sandbox_limits.__file__).parent)!r}]; "
    "import guard; guard.main(sys.argv[1:])"
)
"""An import, not a script: Python keeps its compiled form, and knows when that is older than the source."""


@dataclass(frozen=True, kw_only=True)
class Exit:
    """The end of a command. One of `exit_code` and `signal` is set; none if its end was not seen."""

    exit_code: int | None
    signal: int | None
    reason: str
    """`exited`, `timeout`, `guard lost`, a member of OVER, or the reason given to `stop`."""
    duration_s: float
    message: str = ""
    """More for people: why it could not be started, which processes could not be killed."""

    @property
    def ok(self) -> bool:
        return self.reason == "exited" and self.exit_code == 0


def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes = b"",
    timeout: timedelta,
    kill_grace: timedelta,
    on_output: Callable[[bytes], None],
    hold: int | None = None,
    mark: int | None = None,
    limits: SandboxLimits | None = None,
    terms: int = 1,
) -> Child:
    """Start `argv` in `cwd`.

    `hold` is a descriptor (a flock) that stays open until no process of the command lives. `mark`: the mark
    of its processes (`orphans.py`); None: one of its own. `limits`: those of the sandbox that `argv` starts;
    None: it starts none. `terms`: number of TERM signals before KILL; the second one follows after half of
    the grace. Raises WorkspaceUnusable while the machine lacks processes, descriptors or disk.
    """
    marker = orphans.ProcessMarker.of(env, cwd, orphans.new_mark() if mark is None else mark)
    child = Child(on_output, marker, timeout, kill_grace)
    locale = "" if "LC_CTYPE" in env else "C"
    limited = "-" if limits is None else f"{limits.memory}:{limits.processes}"
    figures = [
        str(marker.mark),
        str(timeout.total_seconds()),
        str(kill_grace.total_seconds()),
        limited,
        str(terms),
        locale,
    ]
    try:
        child.launch([*figures, str(cwd), *argv], env, stdin, hold)
    except (OSError, ValueError) as error:  # arguments too long or with a NUL
        trouble = trouble_of_error(error) if isinstance(error, OSError) else None
        if isinstance(error, OSError) and trouble and not trouble.is_of_the_folder:
            child.refuse(guard.NOT_EXECUTABLE, str(error))
            hint = "the todo is tried again by itself"
            raise WorkspaceUnusable(f"cannot start {argv[0]}: {error.strerror}", hint, trouble) from error
        child.refuse(guard.NOT_EXECUTABLE, f"cannot start {argv[0]}: {error}")
    return child


@dataclass(kw_only=True)
class Report:
    """The guard's reports so far."""

    group: int | None = None
    refused: tuple[int, str] | None = None
    reason: str = ""
    status: int | None = None
    left: set[int] = field(default_factory=set)
    over: str = ""
    """Text on the limit of the sandbox that was exceeded."""
    gone: bool = False
    overdue: bool = False
    """True if the guard did not end its command in time, and was killed by us."""
    late: bool = False
    """True if the command's own timeout had passed by then as well."""

    @property
    def begun(self) -> bool:
        return self.group is not None or self.refused is not None or self.gone

    def note(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "started":
                self.group = int(rest)
            case "refused":
                code, _, message = rest.partition(" ")
                self.refused = (int(code), message)
            case "ended":
                self.reason, _, status = rest.partition(" ")
                self.status = int(status)
            case "over":
                reason, _, found = rest.partition(" ")
                self.over = OVER[reason].format(int(found))
            case "left":
                reason, *pids = rest.split()
                self.reason = self.reason or reason
                self.left |= {int(pid) for pid in pids}
            case "gone":
                self.gone = True

    def outcome(self, stop_reason: str | None, duration_s: float) -> Exit:
        code, signal = self._end_status()
        reason = {"stopped": stop_reason or "stopped", "": stop_reason or GUARD_LOST}.get(
            self.reason, self.reason
        )
        reason = self._reason_when_overdue(stop_reason) if self.overdue and not self.gone else reason
        reason = "exited" if self.refused else reason
        return Exit(
            exit_code=code, signal=signal, reason=reason, duration_s=duration_s, message=self._message()
        )

    def _reason_when_overdue(self, stop_reason: str | None) -> str:
        """Return the reason if the guard was overdue. A command that had ended by itself did not time out."""
        timed_out = self.late and self.reason in ("", "timeout")
        return stop_reason or ("timeout" if timed_out else GUARD_LOST)

    def _end_status(self) -> tuple[int | None, int | None]:
        if self.refused:
            return self.refused[0], None
        if self.status is None:
            return None, None
        code = os.waitstatus_to_exitcode(self.status)
        return (code, None) if code >= 0 else (None, -code)

    def _message(self) -> str:
        if self.refused:
            return self.refused[1]
        how = "did not answer, and was killed" if self.overdue else "was killed from outside"
        causes = [self.over] if self.over else []
        causes += [] if self.gone else [f"the guard of this command {how}; the command was ended with it"]
        if self.left:
            pids = " ".join(map(str, sorted(self.left)))
            causes.append(f"could not be killed, and may still run: {pids}; end them by hand")
        return "; ".join(causes)


class Child:
    """A command under its guard, made by `start`."""

    def __init__(
        self,
        on_output: Callable[[bytes], None],
        marker: orphans.ProcessMarker,
        timeout: timedelta,
        kill_grace: timedelta,
    ) -> None:
        self.guard: int | None = None
        """Pid of the guard."""
        self.group: int | None = None
        """Process group and session of the command; None if it could not be started."""
        self._on_output = on_output
        self._marker = marker
        self._began = time.monotonic()
        self._grace_s = kill_grace.total_seconds()
        self._until = self._began + timeout.total_seconds() + self._grace_s + MARGIN_S
        """When the guard is killed, by the monotonic clock: after the time that it has to end the command."""
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._received = b""
        self._report = Report()
        self._stop_reason: str | None = None
        self._speaking = threading.Lock()
        self._waiting = threading.Lock()
        self._exit: Exit | None = None

    def stop(self, reason: str) -> None:
        """Send TERM, and KILL after the grace. The first reason given counts."""
        self._send(b"T", reason, self._grace_s)

    def kill(self, reason: str = "killed") -> None:
        """Send KILL at once."""
        self._send(b"K", reason, 0.0)

    def wait(self) -> Exit:
        """Pass the output on until no process of the command is left. If `on_output` raises, kill it."""
        with self._waiting:
            if self._exit is None:
                self._exit = self._run_to_end()
            return self._exit

    def launch(
        self, arguments: Sequence[str], env: Mapping[str, str], stdin: bytes, hold: int | None
    ) -> None:
        ours, theirs = socket.socketpair()
        inherited = [theirs.fileno()] if hold is None else [theirs.fileno(), hold]
        names = [str(theirs.fileno()), "-" if hold is None else str(hold)]
        with theirs, file_of(stdin) as source:
            self._line = ours
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", GUARD, *names, *arguments],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd="/",
                pass_fds=inherited,
                start_new_session=True,
            )
        self.guard = self._process.pid
        ours.settimeout(min(START_S, max(MARGIN_S, self._until - self._began)))
        try:
            while not self._report.begun and self._listen():
                pass
        except TimeoutError:
            self._kill_guard()
        ours.settimeout(None)
        self.group = self._report.group
        if self.group is not None:
            self._marker = replace(self._marker, group=self.group, group_started=orphans.started(self.group))

    def refuse(self, code: int, message: str) -> None:
        self._report = Report(refused=(code, message), gone=True)

    def _send(self, command: bytes, reason: str, takes_s: float) -> None:
        with self._speaking:
            self._stop_reason = self._stop_reason or reason
            self._until = min(self._until, time.monotonic() + takes_s + MARGIN_S)
            if self._line is not None:
                with suppress(OSError):  # the guard has just ended: `wait` will see that
                    self._line.send(command)

    def _listen(self) -> bool:
        """Read the guard's reports; False at their end."""
        assert self._line is not None
        try:
            data = self._line.recv(CHUNK)
        except ConnectionError:  # it was killed before it read all our commands
            data = b""
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._report.note(line.decode(errors="replace"))
            self._adapt_time(line)
        return bool(data)

    def _adapt_time(self, line: bytes) -> None:
        """Adapt the guard's time to its report."""
        with self._speaking:
            if line == b"kills":
                self._until = max(self._until, time.monotonic() + MARGIN_S)
            elif line.startswith(b"ended "):
                self._until = min(self._until, time.monotonic() + self._grace_s + MARGIN_S)

    def _kill_guard(self) -> None:
        self._report.overdue = True
        self._report.late = time.monotonic() >= self._until
        assert self._process is not None
        self._process.kill()

    def _run_to_end(self) -> Exit:
        try:
            if self._process is not None:
                self._pump(self._process)
        finally:
            self._close_line()
        return self._report.outcome(self._stop_reason, time.monotonic() - self._began)

    def _pump(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert self._line is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(self._line, selectors.EVENT_READ)
            while True:
                ready = selector.select(LOOK_EVERY_S)
                if time.monotonic() >= self._until and all(key.fileobj is not self._line for key, _ in ready):
                    self._kill_guard()
                for key, _ in ready:
                    if key.fileobj is self._line:
                        if not self._listen():
                            return self._drain(process.stdout)
                    elif not self._pass_on(process.stdout):
                        selector.unregister(process.stdout)  # it closed its output and may well go on

    def _pass_on(self, output: IO[bytes]) -> bool:
        data = os.read(output.fileno(), CHUNK)
        if data:
            self._on_output(data)
        return bool(data)

    def _drain(self, output: IO[bytes]) -> None:
        os.set_blocking(output.fileno(), False)
        until = time.monotonic() + DRAIN_S
        with suppress(BlockingIOError):
            while self._pass_on(output) and time.monotonic() < until:
                pass

    def _close_line(self) -> None:
        """Close the line, so that the guard kills all processes. Clean up after a guard that was killed."""
        with self._speaking:
            if self._line is not None:
                self._line.close()
            self._line = None
        if self._process is None:
            return
        assert self._process.stdout is not None
        self._process.stdout.close()
        try:
            self._process.wait(None if self._report.gone else MARGIN_S)
        except subprocess.TimeoutExpired:
            self._kill_guard()
            self._process.wait()
        if not self._report.gone:
            self._report.left |= orphans.end(self._marker, CLEAR_UP)


@contextmanager
def file_of(stdin: bytes) -> Iterator[IO[bytes] | int]:
    """Yield standard input as a file: a command that never reads a pipe would block the worker."""
    if not stdin:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        yield file
