"""A service that is a systemd unit of the user.

It is started, checked and stopped by `systemctl --user`. Only systemd restarts a unit, as the unit file says;
`systemctl stop` ends the restarts. The thread follows the unit:

| state by systemd | state of the service |
|---|---|
| `active` | healthy or degraded by the probe; its main process is followed, so an end is seen at once |
| `activating`, `deactivating` | starting, or recovering once it was up |
| `failed`, `inactive` | failed, until somebody starts the unit again |

An active unit is adopted unless another order is recorded for it; otherwise an order restarts it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event

from coordination.backend.daemon import Daemon, alive
from coordination.dependencies.command import CommandResult, run
from coordination.dependencies.records import unsatisfied
from coordination.errors import CoordinationError
from coordination.services.host import DesiredService, ServiceState, journal_lines
from coordination.services.runner import ORDER, SETTLED_S, Report, Runner
from coordination.user_program import NotStarted

SYSTEMCTL = ("systemctl", "--user", "--no-pager")
PROPERTIES = "MainPID,ExecMainStatus,ActiveState,SubState,Result"
ANSWER = timedelta(seconds=10)
"""Time limit for calls of systemctl that wait for no unit."""
SOON_S = 0.1
"""Time between two looks at a unit that changes."""
TAIL = 15
CHANGING = ("activating", "deactivating")
NO_SYSTEMD = ("connect to bus", "not been booted with systemd")
STATUS = "see: systemctl --user status"


@dataclass(frozen=True, kw_only=True)
class UnitState:
    """A unit as systemd reports it."""

    active: str
    why: str
    pid: int
    """Pid of its main process; 0 for none."""
    exit_code: int | None
    """Negative for a signal."""

    @property
    def changes(self) -> bool:
        return self.active in CHANGING

    @property
    def is_up(self) -> bool:
        return self.changes or self.active in ("active", "reloading")


class Unit:
    """A service unit of this user. Methods raise CoordinationError where systemd refuses or is not there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def state(self) -> UnitState:
        lines = self._call("show", "--property", PROPERTIES).output.last
        shown = dict(line.partition("=")[::2] for line in lines)
        pid, code = shown.get("MainPID", ""), shown.get("ExecMainStatus", "")
        active, killed = shown.get("ActiveState", ""), shown.get("Result") in ("signal", "core-dump")
        return UnitState(
            active=active,
            why=f"unit {self.name} is {active} ({shown.get('SubState')}, {shown.get('Result')})",
            pid=int(pid) if pid.isdecimal() else 0,
            exit_code=(-int(code) if killed else int(code)) if code.isdecimal() else None,
        )

    def restart(self, limit: timedelta, stopped: Event) -> None:
        """Start the unit, or restart it, and wait as long as systemd does. Setting `stopped` ends that."""
        self._run("reset-failed")  # earlier failures do not count against this order
        self._call("restart", limit=limit, stopped=stopped)

    def stop(self, grace: timedelta) -> None:
        """Stop the unit, and kill its processes after the grace time."""
        if self._run("stop", limit=grace).code is None:
            self._run("kill", "--signal=SIGKILL")
            self._run("stop")
        if (now := self.state()).is_up:
            raise CoordinationError(f"{now.why} after a stop", f"{STATUS} {self.name}")

    def _call(
        self, verb: str, *options: str, limit: timedelta = ANSWER, stopped: Event | None = None
    ) -> CommandResult:
        ended = self._run(verb, *options, limit=limit, stopped=stopped)
        if ended.code == 0 or (stopped is not None and stopped.is_set()):
            return ended
        words = "; ".join(line.strip() for line in ended.output.last if line.strip())
        if ended.code is None:
            words = f"no end within {limit.total_seconds():g} s"
        lost = any(one in words for one in NO_SYSTEMD)
        hint = "let systemd serve this user: loginctl enable-linger" if lost else f"{STATUS} {self.name}"
        raise CoordinationError(f"systemctl --user {verb} {self.name}: {words or ended.code}", hint)

    def _run(
        self, verb: str, *options: str, limit: timedelta = ANSWER, stopped: Event | None = None
    ) -> CommandResult:
        """Run systemctl; its code is None if it was killed."""
        command = (*SYSTEMCTL, verb, *options, "--", self.name)
        try:
            return run(command, folder=Path("/"), timeout=limit, stopped=stopped)
        except NotStarted as error:
            raise CoordinationError(
                f"no systemd on this host for unit {self.name}: {error}",
                "give the service a `command`, or serve its repository on a host with systemd",
            ) from error


class UnitRunner(Runner):
    """Follows one unit, in a thread, until it is stopped."""

    def __init__(self, desired: DesiredService, daemon: Daemon, private: Path, report: Report) -> None:
        super().__init__(desired, daemon, private, report)
        self._unit = Unit(desired.service.unit_file)
        self._begun = False

    def finish(self) -> None:
        """Stop the unit, unless the supervisor ends and leaves it to the next one."""
        if self.stays:
            return
        self._update(state=ServiceState.SHUTTING_DOWN)
        while self._daemon.record() is not None:  # a unit without one was never up
            try:
                self._unit.stop(self.desired.service.stop_grace)
                self._daemon.forget()
            except CoordinationError as error:
                self._update(why=_words(error))
                time.sleep(1.0)
        self._update(state=ServiceState.STOPPED, why="it was stopped", pid=None, failures=0)

    @property
    def _due(self) -> float:
        return self._next_look

    def _round(self) -> None:
        now, record = time.monotonic(), self._record
        if not self._begun:
            self._begun = True
            self._begin_unit(now)
        elif now >= self._next_look or (record is not None and not alive(record)):
            self._take(now)

    def _begin_unit(self, now: float) -> None:
        """Adopt the unit where it is up and was not started by another order; else restart it."""
        service, known = self.desired.service, self._daemon.record()
        self._record, self._deadline = None, now + service.start_timeout.total_seconds()
        try:
            adopted = self._unit.state().is_up and (
                known is None or known.facts.get(ORDER) == self.desired.order
            )
            self._daemon.keep(0, {ORDER: self.desired.order})
            if not adopted:
                self._unit.restart(service.start_timeout, self.stopping)
        except CoordinationError as error:
            self._give_up(_words(error))
            return
        if not adopted and service.probe.process:
            self._next_look = now + SETTLED_S

    def _take(self, now: float) -> None:
        """Take the state that systemd reports, and look at the service if its unit is active."""
        failed = self.status.state is ServiceState.FAILED
        try:
            seen = self._unit.state()
        except CoordinationError as error:
            self._next_look = now + self._every_s
            if not failed:
                self._judge(unsatisfied(_words(error)), 0.0)
            return
        if not seen.is_up:
            self._record, self._next_look = None, now + self._every_s
            if not failed:
                self._fail(f"{seen.why}\n{self._tail()}", exit_code=seen.exit_code)
            return
        if not self._comes_up and (seen.changes or seen.pid != (self.status.pid or 0)):
            self._comes_back(seen, now)
        if self._comes_up and now > self._deadline:
            limit_s = self.desired.service.start_timeout.total_seconds()
            self._give_up(f"its probe did not pass within {limit_s:g} s: {self.status.why or seen.why}")
        elif seen.changes:
            self._next_look = now + SOON_S
        else:
            self._look_at(seen.pid, now)

    def _comes_back(self, seen: UnitState, now: float) -> None:
        """Note that systemd, or a person, starts the unit again."""
        self._record, self._deadline = None, now + self.desired.service.start_timeout.total_seconds()
        restarts = self.status.restarts + 1
        self._update(state=ServiceState.RECOVERING, why=seen.why, pid=None, restarts=restarts)

    def _look_at(self, pid: int, now: float) -> None:
        """Look at the service, after following a new main process."""
        if pid != (self._record.pid if self._record else 0):
            self._record = self._daemon.keep(pid, {ORDER: self.desired.order})
            self._follow(self._record)
        elif self._record is not None and not alive(self._record):  # systemd has not seen it yet
            self._next_look = now + SOON_S
            return
        self._look()

    def _give_up(self, why: str) -> None:
        """Stop the unit, so that it does not start later, and report the failure."""
        self._record, self._next_look = None, time.monotonic() + self._every_s
        with suppress(CoordinationError):
            self._unit.stop(self.desired.service.stop_grace)
        self._fail(f"{why}\n{self._tail()}".rstrip())

    def _tail(self) -> str:
        with suppress(CoordinationError):
            return "\n".join(f"  | {line}" for line in journal_lines(self._unit.name, TAIL))
        return ""


def _words(error: CoordinationError) -> str:
    return f"{error.message}; {error.hint}"
