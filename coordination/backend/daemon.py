"""Detached processes that outlive the command that started them, each with a log file and a record file.

The record `<folder>/<name>.json` identifies the process by its pid and the kernel's start time. A pid alone
is not enough: the kernel reuses it, and an unrelated process must never get a signal from coord.

The child waits for a line on its standard input before it executes the command. If the parent is killed after
the spawn but before it wrote the record, the pipe closes and the child exits. So there is a
record of every process that runs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from coordination.environment import without_calling_git
from coordination.errors import CoordinationError
from coordination.files import below, open_private, replace_file
from coordination.processes import is_alive, start_time

logger = logging.getLogger(__name__)

LOG_LIMIT_BYTES = 5 * 1024 * 1024
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 64 * 1024
_POLL_S = 0.005
_BECOME = 'read -r _ && cd -- "$0" && exec "$@" </dev/null'
"""Shell code of the child, with its folder as `$0`: the caller's folder may be removed in the meantime."""
_RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE)

Step = tuple[signal.Signals, float]
"""A signal, and how many seconds to wait for the exit after it."""
STOP_STEPS: tuple[Step, ...] = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))


@dataclass(frozen=True, kw_only=True)
class Record:
    pid: int
    started: str
    """Start time of the process by the kernel, with the id of the boot."""
    facts: Mapping[str, str] = field(default_factory=dict)


class Daemon:
    """The process `name` of a folder. The caller's lock ensures that there is at most one."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = below(folder, f"{name}.log")
        self._record = below(folder, f"{name}.json")
        self._log_start = 0

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        environ: Mapping[str, str] = os.environ,
        facts: Mapping[str, str] | None = None,
        hold: int | None = None,
        cwd: Path | None = None,
        private: bool = False,
        title: str = "",
    ) -> Record:
        """Start the process and return its record.

        `cwd`: its working directory (default: the folder of its record). `env` is added to `environ`. `hold`:
        a file descriptor that the process inherits. With `private`, only this user can access its new files.
        `title`: its name in the line that the log gets before the process runs; without it there is no line.
        """
        self._rotate_log()
        become = [str(cwd or self.log.parent), *command]
        script = f"umask 077 && {_BECOME}" if private else _BECOME
        variables = {**without_calling_git(environ), **(env or {})}
        pid, gate = self._spawn(["sh", "-c", script, *become], variables, hold)
        try:
            record = self.keep(pid, facts or {})
            if title:
                self.note(f"started {title} (pid {pid})")
            os.write(gate, b"\n")
        finally:
            os.close(gate)
        logger.info("started the %s, pid %d, log %s", self.name, pid, self.log)
        return record

    def keep(self, pid: int, facts: Mapping[str, str]) -> Record:
        """Write the record of a process; return it."""
        record = Record(pid=pid, started=start_time(pid) or "", facts=dict(facts))
        replace_file(self._record, json.dumps(asdict(record)).encode(), durable=False)
        return record

    def record(self) -> Record | None:
        """Return the record of the process that was started last, alive or not."""
        try:
            return Record(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):  # no record, or one that a full disk truncated
            return None

    def running(self) -> Record | None:
        record = self.record()
        return record if record and alive(record) else None

    def stop(self, steps: Sequence[Step] = STOP_STEPS) -> Record | None:
        """Send each signal in turn, and wait for the exit after each; return the record of the process.

        Returns None if no process was running. Raises CoordinationError if the process survives all signals.
        """
        record = self.running()
        if record is None:
            return None
        for number, timeout_s in steps:
            _send(record, number)
            if wait_until(lambda: not alive(record), timeout_s):
                self.forget(record)
                logger.info("stopped the %s, pid %d", self.name, record.pid)
                return record
        raise CoordinationError(
            f"the {self.name} (pid {record.pid}) does not exit", f"see {self.log}, then: kill -9 {record.pid}"
        )

    def signal(self, record: Record, number: signal.Signals) -> None:
        """Send a signal to the process that writes into its log, and wait up to a second for that."""
        before = self.log.stat().st_size if self.log.exists() else 0
        _send(record, number)
        wait_until(lambda: not alive(record) or self.log.stat().st_size > before, 1.0)

    def forget(self, stopped: Record | None = None) -> None:
        """Delete the record of a stopped process, or of one that ends now. The record of a process that died
        by itself is kept.
        """
        if stopped is None or self.record() == stopped:
            self._record.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """Return the last lines that the process wrote since its start."""
        try:
            with self.log.open("rb") as file:
                size = self.log.stat().st_size
                file.seek(max(min(self._log_start, size), size - LOG_TAIL_BYTES))
                lines = file.read(LOG_TAIL_BYTES).decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:]) or "  | (no output)"

    def note(self, words: str) -> None:
        """Append a line of coord to the log. Errors such as a full disk are ignored."""
        with contextlib.suppress(OSError), open_private(self.log, "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} coord: {words}\n")

    def _rotate_log(self) -> None:
        size = self.log.stat().st_size if self.log.exists() else 0
        if size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
            size = 0
        self._log_start = size

    def _spawn(self, become: list[str], env: Mapping[str, str], hold: int | None) -> tuple[int, int]:
        waiting, gate = os.pipe()
        if hold is not None:
            os.set_inheritable(hold, True)
        try:
            pid = os.posix_spawn(
                "/bin/sh",
                become,
                env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, waiting, 0),
                    (os.POSIX_SPAWN_OPEN, 1, self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=_RESET,
            )
        except BaseException:
            os.close(gate)
            raise
        finally:
            os.close(waiting)
        return pid, gate


def _send(record: Record, number: signal.Signals) -> None:
    """Send a signal to the process of the record, and to no other one that has got its pid."""
    if alive(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)


def alive(record: Record) -> bool:
    return is_alive(record.pid, record.started)


def wait_until(condition: Callable[[], bool], timeout_s: float, poll_s: float = _POLL_S) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True
