"""A process that outlives the command that started it: detached, logged to a file, known again by its record.

Its record `<folder>/<name>.json` names it by pid and the kernel's start time, because a pid alone is soon somebody
else's and a stranger must never get our signal. The child waits for a line on its standard input before it becomes the
command: when we are killed between starting it and writing the record, the pipe closes and it ends, so that nothing
runs which `coord down` does not know.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from coordination.errors import CoordinationError
from coordination.files import open_private, replace_file
from coordination.processes import is_alive, start_time

LOG_LIMIT_BYTES = 5 * 1024 * 1024
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 64 * 1024
_POLL_S = 0.005
_BECOME = 'read -r _ && cd -- "$0" && exec "$@" </dev/null'  # our own folder may be gone before it is
_RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE)

Step = tuple[signal.Signals, float]
"""A signal, and how many seconds to wait for the end after it."""
STOP_STEPS: tuple[Step, ...] = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))


@dataclass(frozen=True, kw_only=True)
class Record:
    pid: int
    started: str
    """When the kernel says it began, and in which boot."""
    facts: Mapping[str, str] = field(default_factory=dict)


class Daemon:
    """The process `name` of the folder: at most one, by the caller's lock."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._record = folder / f"{name}.json"
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
    ) -> Record:
        """Start it in `cwd` (the folder of its record); `env` is added to `environ`, `hold` is an open file that it
        keeps. With `private` the files that it makes are ours alone.
        """
        self._rotate_log()
        become = [str(cwd or self.log.parent), *command]
        script = f"umask 077 && {_BECOME}" if private else _BECOME
        pid, gate = self._spawn(["sh", "-c", script, *become], {**environ, **(env or {})}, hold)
        try:
            record = Record(pid=pid, started=start_time(pid) or "", facts=dict(facts or {}))
            replace_file(self._record, json.dumps(asdict(record)).encode(), durable=False)
            os.write(gate, b"\n")
        finally:
            os.close(gate)
        return record

    def record(self) -> Record | None:
        """Who was started last, alive or not."""
        try:
            return Record(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):  # none, or cut short by a full disk: nobody we could name
            return None

    def running(self) -> Record | None:
        record = self.record()
        return record if record and alive(record) else None

    def stop(self, steps: Sequence[Step] = STOP_STEPS) -> Record | None:
        """Send each signal in turn until it is gone, waiting so many seconds after each; returns whom it stopped."""
        record = self.running()
        if record is None:
            return None
        for number, patience_s in steps:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, number)
            if wait_until(lambda: not alive(record), patience_s):
                self._forget(record)
                return record
        raise CoordinationError(
            f"the {self.name} (pid {record.pid}) does not end", f"see {self.log}, then: kill -9 {record.pid}"
        )

    def _forget(self, stopped: Record) -> None:
        """Only what died by itself leaves its record behind."""
        if self.record() == stopped:
            self._record.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """The last lines it wrote since its start."""
        try:
            with self.log.open("rb") as file:
                size = self.log.stat().st_size
                file.seek(max(min(self._log_start, size), size - LOG_TAIL_BYTES))
                lines = file.read(LOG_TAIL_BYTES).decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:]) or "  | (nothing: is the disk full?)"

    def note(self, words: str) -> None:
        """Append a line of ours to its log; a full disk costs the line and nothing else."""
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


def alive(record: Record) -> bool:
    return is_alive(record.pid, record.started)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
