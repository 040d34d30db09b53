"""One service under supervision: it is started, probed, restarted and stopped.

| event | effect |
|---|---|
| the probe of a local port passes before the process has started: another program has the port | failed |
| the probe passes | starting → healthy |
| the process ends before that, or `start_timeout` is over | failed; its remaining processes are killed |
| `tries` failed looks in a row | healthy → degraded, until one passes |
| the process ends later | by `restart`: recovering, at once, then after 1, 2, 4 and 8 s; else failed |
| six ends within five minutes | failed |
| it is stopped | SIGTERM to its process group, after `stop_grace` SIGKILL |
| in a sandbox, it exceeds a limit | it is killed, then as if its process had ended |

A process that lives when the thread begins is adopted if the same order has started it.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from coordination.backend.daemon import Daemon, Record, alive, wait_until
from coordination.background import BackgroundService
from coordination.dependencies.records import CheckVerdict, holds
from coordination.environment import without_ours
from coordination.models import Restart, argv_of
from coordination.operations.supervision import LIMIT, WINDOW_S, delay_s
from coordination.operations.supervision import Restart as End
from coordination.processes import has_ended, kill_group, start_time
from coordination.sandbox import NoSandbox
from coordination.services.confined import Started, remove, terminate
from coordination.services.host import DesiredService, ServiceState, ServiceStatus
from coordination.services.probe import is_local, look

COMING_UP_S = 0.2
"""Longest time in seconds between two looks at a starting service."""
FIRST_LOOKS_S = 0.05
"""Seconds between its first looks; the later pauses are a tenth of the time since its start."""
ROUND_S = 1.0
"""Longest time in seconds between two rounds, which check the length of the log, and whether the process has
ended where the system does not notify of that.
"""
SHORTEST_S = 0.01
SETTLED_S = 1.0
"""Seconds for which a process must live if the probe looks only at the process."""
LOG_LIMIT = 20 * 1024 * 1024
"""Bytes of the longest log; the end of a longer one is moved to `NAME.log.1`."""
COUNT_S = 0.2
"""Seconds between two counts of the memory and the processes of a sandbox."""
ORDER, SANDBOX = "order", "sandbox"
"""Facts of the process: the order that has started it; `yes` if it is in a sandbox."""
Report = Callable[[ServiceStatus], None]


class Runner(BackgroundService):
    """Keeps one service up, in a thread, until it is stopped."""

    name = "service"
    first_at_once = True

    def __init__(self, desired: DesiredService, daemon: Daemon, private: Path, report: Report) -> None:
        """`private`: holds the private folders of a service that runs in a sandbox."""
        super().__init__()
        self.desired = desired
        self._private = private
        self._daemon = daemon
        self._report = report
        self._ends: list[End] = []
        self._record: Record | None = daemon.record()
        self._start_at = self._began = self._deadline = self._next_look = 0.0
        service = desired.service
        self.status = ServiceStatus(
            name=service.name,
            repo=service.repo,
            order=desired.order,
            unit=service.unit_file,
            state=ServiceState.STARTING,
            since=time.time(),
        )
        report(self.status)

    def run_once(self) -> None:
        """Check the clock, the process and the probe once."""
        self._round()
        failed = self.status.state is ServiceState.FAILED
        longest_s = COUNT_S if self.desired.sandbox and self.status.pid else ROUND_S
        due_s = ROUND_S if failed else max(self._due - time.monotonic(), SHORTEST_S)
        self.interval_s = min(due_s, longest_s)

    @property
    def _due(self) -> float:
        """Return the time of the next action, by the monotonic clock."""
        return self._start_at if self.status.pid is None else self._next_look

    def _round(self) -> None:
        now, record = time.monotonic(), self._record
        if self.status.state is ServiceState.FAILED:
            return
        if record is None or self.status.pid is None:
            if now >= self._start_at:
                self._begin(record)
            return
        if _has_ended(record):
            self._ended(record, _exit_code(record.pid))
            return
        if self.desired.sandbox and (over := self.desired.sandbox.exceeded(record.pid)):
            self._kill(record)
            self._ended(record, None, f"was killed: {over}")
            return
        self._shorten_log()
        if self._comes_up and now > self._deadline:
            self._too_late(record)
        elif now >= self._next_look:
            self._look()

    def failed(self, error: Exception) -> float:
        """Report an error of the machine, such as a full disk; the next round tries again."""
        self._update(why=f"{type(error).__name__}: {error}")
        return 1.0

    def finish(self) -> None:
        """Stop the service, unless the supervisor ends and leaves it to the next one."""
        if not self.stays:
            self._update(state=ServiceState.SHUTTING_DOWN)
            record = self._daemon.record()
            if record is not None and start_time(record.pid) == record.started:
                self._stop_process(record)  # a child that has ended, too: its group may have other processes
            remove(self._private)
            self._update(state=ServiceState.STOPPED, why="it was stopped", pid=None, failures=0)

    stays = False
    """True if the service is to outlive the thread."""

    def _begin(self, record: Record | None) -> None:
        """Adopt the process of this order, or start one."""
        service = self.desired.service
        if record is not None and alive(record):
            if record.facts.get(ORDER) == self.desired.order:
                self._follow(record)
                return
            self._stop_process(record)
        folder = self.desired.folder / (service.cwd or "")
        if not folder.is_dir():
            self._fail(f"there is no folder {folder}")
            return
        if not self.status.restarts and (answer := self._answer_of_another()):
            self._fail(f"another program answers in its place, before it was started: {answer}")
            return
        try:
            started = self._start_command(folder)
        except NoSandbox as error:
            self._fail(f"{error.message}; {error.hint}")
            return
        self._record = self._daemon.start(
            started.argv,
            environ=started.environment,
            facts={ORDER: self.desired.order, **({SANDBOX: "yes"} if self.desired.sandbox else {})},
            cwd=Path("/") if self.desired.sandbox else folder,
            title=service.name,
        )
        self._follow(self._record)
        self._next_look = self._began + (SETTLED_S if service.probe.process else 0.0)

    def _start_command(self, folder: Path) -> Started:
        """Return the command of the service, in its sandbox if it has one. Raises NoSandbox, OSError."""
        service, sandbox = self.desired.service, self.desired.sandbox
        assert service.command is not None
        command, env = argv_of(service.command), {name: str(value) for name, value in service.env.items()}
        if sandbox is None:
            return Started(argv=command, environment=without_ours(os.environ) | env)
        return sandbox.start_command(service.name, command, env, folder, self._private)

    def _confine(self, command: Sequence[str]) -> tuple[str, ...]:
        """Return the command line of a probe in the sandbox of the service."""
        assert self.desired.sandbox is not None
        return self.desired.sandbox.probe_command(command, self.desired.folder, self._private)

    def _answer_of_another(self) -> str:
        """Return the answer of a local port before the process has started; "" without an answer."""
        if not is_local(self.desired.service.probe):
            return ""
        seen = look(self.desired.service.probe, self.desired.folder, alive=True, stopped=self.stopping)
        return seen.why if holds(seen) else ""

    def _follow(self, record: Record) -> None:
        """Watch this process from now on; its end wakes the thread at once."""
        self._began = self._next_look = time.monotonic()
        self._deadline = self._began + self.desired.service.start_timeout.total_seconds()
        self._update(pid=record.pid)
        end = threading.Thread(target=_await_end, args=(record.pid, self.wake), daemon=True, name="end")
        end.start()

    @property
    def _comes_up(self) -> bool:
        return self.status.state in (ServiceState.STARTING, ServiceState.RECOVERING)

    def _too_late(self, record: Record) -> None:
        self._stop_process(record)
        limit_s = self.desired.service.start_timeout.total_seconds()
        why = f"its probe did not pass within {limit_s:g} s: {self.status.why}"
        if self.status.state is ServiceState.STARTING:
            self._fail(why)
        else:
            self._ended(record, None)

    @property
    def _every_s(self) -> float:
        return self.desired.service.probe.every.total_seconds()

    def _look(self) -> None:
        began = time.monotonic()
        confine = self._confine if self.desired.sandbox else None
        seen = look(
            self.desired.service.probe,
            self.desired.folder,
            alive=True,
            stopped=self.stopping,
            confine=confine,
        )
        self._judge(seen, time.monotonic() - began)

    def _judge(self, seen: CheckVerdict, took_s: float) -> None:
        """Report the state that follows from a look."""
        service = self.desired.service
        facts = {"why": seen.why, "looked_at": time.time(), "latency_s": round(took_s, 4)}
        if holds(seen):
            self._next_look = time.monotonic() + self._every_s
            self._update(state=ServiceState.HEALTHY, failures=0, **facts)
            return
        pause_s = self._every_s
        if self._comes_up:
            pause_s = min(pause_s, COMING_UP_S, max(FIRST_LOOKS_S, (time.monotonic() - self._began) / 10))
        self._next_look = time.monotonic() + pause_s
        failures = self.status.failures + 1
        bad = not self._comes_up and failures >= service.probe.tries
        self._update(state=ServiceState.DEGRADED if bad else self.status.state, failures=failures, **facts)

    def _ended(self, record: Record, code: int | None, how: str = "") -> None:
        """Start the service again as `restart` says, or report its failure."""
        how, tail = how or _how(code), self._daemon.log_tail()
        self._daemon.note(f"{self.status.name} (pid {record.pid}) {how}")
        restart = self.desired.service.restart
        now = time.monotonic()  # a wall clock that is set back would delay the restart
        self._ends = [end for end in self._ends if end.at > now - WINDOW_S]
        wait_s = delay_s(self._ends, now)
        self._ends.append(End(name=self.status.name, at=now, died=record.pid))
        if self.status.state is ServiceState.STARTING and not self.status.restarts:
            return self._fail(f"it {how} before its probe passed\n{tail}", exit_code=code)
        if restart is Restart.NO or (restart is Restart.ON_FAILURE and code == 0):
            return self._fail(f"it {how}", exit_code=code)
        if wait_s is None:
            return self._fail(f"it {how}, {LIMIT + 1} times within five minutes", exit_code=code)
        self._start_at = time.monotonic() + wait_s
        restarts = self.status.restarts + 1
        return self._update(
            state=ServiceState.RECOVERING, why=f"it {how}", pid=None, exit_code=code, restarts=restarts
        )

    def _fail(self, why: str, **facts: object) -> None:
        self._update(state=ServiceState.FAILED, why=why, pid=None, **facts)

    def _update(self, **facts: object) -> None:
        """Change these fields of the status, and report it."""
        if facts.get("state", self.status.state) is not self.status.state:
            facts["since"] = time.time()
        self.status = self.status.model_copy(update=facts)
        self._report(self.status)

    def _stop_process(self, record: Record) -> None:
        """End the process group of a process that lives, or of a child that is not reaped."""
        self._daemon.note(f"stops {self.status.name} (pid {record.pid})")
        if SANDBOX in record.facts:
            terminate(record.pid)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(record.pid, signal.SIGTERM)
        wait_until(lambda: _has_ended(record), self.desired.service.stop_grace.total_seconds())
        self._kill(record)

    @staticmethod
    def _kill(record: Record) -> None:
        kill_group(record.pid)
        wait_until(lambda: not alive(record), float("inf"))

    def _shorten_log(self) -> None:
        """Move the end of a log that is too long to another file. The service appends to the same file."""
        log = self._daemon.log
        with suppress(OSError):
            if log.stat().st_size > LOG_LIMIT:
                with log.open("rb+") as file:
                    file.seek(-LOG_LIMIT // 2, os.SEEK_END)
                    log.with_suffix(".log.1").write_bytes(file.read())
                    file.truncate(0)


def _await_end(pid: int, notify: Callable[[], None]) -> None:
    """Call `notify` when the process has ended. On a system without pidfd, the rounds find the end."""
    if not hasattr(os, "pidfd_open"):
        return
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            ended.poll()
        finally:
            os.close(descriptor)
    notify()


def _has_ended(record: Record) -> bool:
    """Return whether the process has ended. A child is not reaped, so its group can still be killed."""
    try:
        return has_ended(record.pid)
    except ChildProcessError:  # it was adopted
        return not alive(record)


def _exit_code(pid: int) -> int | None:
    """Reap an ended child, after killing the rest of its process group; return its exit code. None for a
    process that is no child.
    """
    try:
        has_ended(pid)
    except ChildProcessError:  # it was adopted
        return None
    kill_group(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _how(code: int | None) -> str:
    if code is None:
        return "ended"
    return f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
