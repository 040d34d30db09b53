"""The programs of coord as processes that begin in some ms: forked from one that has imported everything, and
has no thread.

They are real processes with memory, files and signals of their own; what they do not do anew is to import. So
that a story takes seconds, what coord does every few seconds it does here several times a second.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import coordination
import workers
import workers.worker_process as worker
from coordination.cli import app
from coordination.locks.sweeper import Sweeper
from coordination.runs.control import starting
from coordination.runs.maintenance import clock, expiry, rounds, stuck
from coordination.runs.submission import draft
from tests.chaos.failpoints.hooks import switch_on
from workers import delivery
from workers.attempt import attempt
from workers.cleanup import jobs as cleanup_jobs
from workers.process import trouble

CLOCK = "clock-was-set"
"""A file that says by how many seconds a process' own clock, beside which it holds that of Redis, is off."""


class SettableClock:
    @staticmethod
    def monotonic() -> float:
        file = Path(CLOCK)
        return time.monotonic() + (float(file.read_text()) if file.exists() else 0)


HURRIED = (
    (rounds, "RESEND_AFTER", timedelta(seconds=1)),
    (rounds, "LEVEL_GRACE_MS", 1000),
    (expiry, "LOOK_EVERY_S", 0.3),
    (stuck, "QUIET_S", 0.5),
    (stuck, "CONFIRM_S", 0.5),
    (stuck, "LOOK_S", 0.2),
    (clock, "time", SettableClock),
    (draft, "DRAFT_TTL", timedelta(seconds=20)),
    (starting, "START_TTL", timedelta(seconds=2)),
    (attempt, "BUSY_PATIENCE", timedelta(seconds=0.3)),
    (delivery, "PARKED_FOR", timedelta(seconds=0.3)),
    (trouble, "REDIS_RETRY_S", 0.1),
    (cleanup_jobs, "LOOK_EVERY_S", 0.3),
    (cleanup_jobs, "PERIODIC_JOBS_EVERY_S", 0.5),
)
"""Module, constant, and what it is here."""

SERVERS = (
    "coordination.mcp",
    "coordination.gateway",
    "coordination.operations.flower_app",
    "coordination.demo",
)


def _import_all() -> None:
    for package in (coordination, workers):
        for module in walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda _: None):
            if not module.name.startswith(SERVERS) and not module.name.endswith("__main__"):
                import_module(module.name)


_import_all()


@dataclass
class Program:
    """One process; `points` is the file in which it writes what it reached."""

    role: str
    pid: int
    out: Path
    points: Path
    code: int | None = None
    """As subprocess has it: negative for the signal that ended it."""
    stopped: bool = False
    was_stopped: bool = False
    _ended: bool = field(default=False, repr=False)

    def poll(self) -> int | None:
        """The exit code; notes meanwhile whether it was stopped."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                self.stopped = self.was_stopped = True
            elif pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def go_on(self) -> None:
        self.stopped = False
        self.signal(signal.SIGCONT)

    def end(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)

    @property
    def reached(self) -> list[str]:
        return self.points.read_text().splitlines() if self.points.exists() else []

    @property
    def said(self) -> str:
        return self.out.read_text(errors="replace")


def begin(role: str, argv: Sequence[str], folder: Path, env: Mapping[str, str], fault: str = "") -> Program:
    """`coord …`, or `python -m workers …` where the role begins with `worker`; `fault` is POINT=FAULT@HIT."""
    number = sum(1 for _ in folder.glob(f"{role}-*.out"))
    out, points = folder / f"{role}-{number}.out", folder / f"{role}-{number}.points"
    out.touch()
    failpoints = ",".join(filter(None, (f"log={points}", fault)))
    pid = os.fork()
    if pid == 0:
        _become(role, argv, folder, env, out, failpoints)
    return Program(role=role, pid=pid, out=out, points=points)


def _become(
    role: str, argv: Sequence[str], folder: Path, env: Mapping[str, str], out: Path, failpoints: str
) -> None:
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(folder)
        for name in [name for name in os.environ if name.startswith("COORD_")]:
            del os.environ[name]
        os.environ.update(env)
        file = os.open(out, os.O_WRONLY | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, file), (2, file)):
            os.dup2(source, target)
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
        for module, name, value in HURRIED:
            assert hasattr(module, name), name
            setattr(module, name, value)
        Sweeper.__init__.__kwdefaults__["every"] = timedelta(seconds=0.5)  # type: ignore[index]
        switch_on(failpoints)
        code = worker.main(argv) if role.startswith("worker") else _command(argv)
    except BaseException:  # noqa: BLE001 (the process ends here, whatever it was)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(argv: Sequence[str]) -> int:
    try:
        app.run(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
