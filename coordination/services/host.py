"""The services of one machine: the desired ones, and the state of each that the supervisor reports.

Both are files of a state folder. Callers write the desired services, the supervisor (supervisor.py) writes
the states. They share nothing else, so callers, the supervisor and the services may die in any order. The
supervisor starts with the first desired service and ends with the last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from coordination.backend.daemon import Daemon, wait_until
from coordination.environment import without_ours
from coordination.errors import Conflict, CoordinationError, Unreachable
from coordination.files import below, is_locked, locked, make_private, replace_file
from coordination.frozen import FrozenModel
from coordination.models import Service, Word
from coordination.services.confined import ServiceSandbox

FOLDER = "services"
CHECK = "check"
"""Prefix of the ids of todos that execute the checks of a start."""
SUPERVISOR = "supervisor"
RESERVED = "first.lock"
"""Locked while the workers of the machine execute only todos of services."""
COMMAND = (sys.executable, "-P", "-m", "coordination.services.supervisor")
STARTED_S = 20.0
"""Seconds within which the supervisor must act on an order."""
MOST_CONFINED = 100
"""Services in sandboxes that a machine keeps up: people whose todos are confined may order them, under any
name. Others may execute any program as the user of the worker.
"""
MOST_STOPPED = 200
"""Services that are down whose last state a machine keeps."""
POLL_S = 0.05
"""Seconds between two readings of the states by a caller that waits for a stop."""


class ServiceState(Word):
    """State of a service on its host."""

    STARTING = "starting"
    """Its process has started, but its probe has not passed yet."""
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Its process lives, but its probe fails."""
    RECOVERING = "recovering"
    """Its process has ended and is started again."""
    FAILED = "failed"
    """It has ended or did not start, and the supervisor does not start it again."""
    SHUTTING_DOWN = "shutting_down"
    STOPPED = "stopped"
    UNREACHABLE = "unreachable"
    """No supervisor reports it."""


UP_BY_ITSELF = (
    ServiceState.STARTING, ServiceState.HEALTHY, ServiceState.RECOVERING, ServiceState.UNREACHABLE
)  # fmt: skip
"""States in which an order to start changes nothing: the supervisor, or the next one, handles it."""


SETTLED = (ServiceState.HEALTHY, ServiceState.FAILED, ServiceState.STOPPED)
"""States in which a start has ended."""


class DesiredService(FrozenModel):
    """A service that is to be up."""

    service: Service
    folder: Path
    """The checkout of its repository."""
    order: str
    """The run that ordered its start; the supervisor starts the service once for each run."""
    at: float = 0.0
    """Time of the order, in seconds since 1970."""
    sandbox: ServiceSandbox | None = None
    """None: it runs without one."""

    def same_rules(self, sandbox: ServiceSandbox | None) -> bool:
        """Return whether a sandbox has the limits of this one. The programs of the machine may differ."""
        return (self.sandbox and self.sandbox.bounds) == (sandbox and sandbox.bounds)


class ServiceStatus(FrozenModel):
    """State of a service as the supervisor reports it."""

    name: str
    repo: str
    order: str
    state: ServiceState
    why: str = ""
    """The reason for the state, or the result of the last probe."""
    since: float
    """Time since which it is in this state, in seconds since 1970."""
    unit: str = ""
    """Its systemd unit; empty for a command."""
    pid: int | None = None
    exit_code: int | None = None
    """Exit code of the last process; negative for a signal, None if unknown."""
    restarts: int = 0
    """Number of restarts by the supervisor since the order."""
    looked_at: float | None = None
    """Time of the last probe, in seconds since 1970."""
    latency_s: float | None = None
    """Duration of the last probe in seconds."""
    failures: int = 0
    """Number of failed probes in a row."""


Stamp = tuple[int, int, int] | None

_DESIRED = TypeAdapter(dict[str, DesiredService])
_STATES = TypeAdapter(dict[str, ServiceStatus])
PUBLISHED = TypeAdapter(tuple[ServiceStatus, ...])
"""The states of a repository's services, as a worker publishes them."""


class ServiceHost:
    """The services of a state folder."""

    def __init__(self, state: Path) -> None:
        self.folder = state / FOLDER
        self._desired_file = self.folder / "wanted.json"
        self._states = self.folder / "states.json"
        self.supervisor = Daemon(self.folder, SUPERVISOR)

    def stamps(self) -> tuple[Stamp, Stamp]:
        """Return the stamps of both files; a stamp changes with its file."""
        return _stamp(self._desired_file), _stamp(self._states)

    def desired(self) -> Mapping[str, DesiredService]:
        """Return name → desired service. Raises CoordinationError for a damaged file."""
        try:
            return _DESIRED.validate_json(self._desired_file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            raise CoordinationError(
                f"{self._desired_file} cannot be read: {error}",
                "stop the services by hand and remove the file: coord service list shows their pids",
            ) from error

    def states(self) -> Mapping[str, ServiceStatus]:
        """Return name → state as the supervisor last reported it. Without a live supervisor, desired services
        are unreachable.
        """
        try:
            found = _STATES.validate_json(self._states.read_bytes())
        except (OSError, ValidationError):  # none was written yet, or a full disk cut it off
            found = {}
        if self.supervisor.running():
            return found
        up = self.desired()
        gone = {"state": ServiceState.UNREACHABLE, "why": "its supervisor has ended: coord service start"}
        return {name: one.model_copy(update=gone) if name in up else one for name, one in found.items()}

    def published(self) -> Mapping[str, str]:
        """Return repository → the states of its services, as a worker publishes them."""
        found: defaultdict[str, list[ServiceStatus]] = defaultdict(list)
        if self.folder.is_dir():
            try:
                for one in self.states().values():
                    found[one.repo].append(one.model_copy(update={"why": one.why[:2000]}))
            except CoordinationError:  # a damaged file: the commands on this machine say so
                return {}
        return {repo: PUBLISHED.dump_json(tuple(states)).decode() for repo, states in found.items()}

    def repos_of(self, name: str) -> frozenset[str]:
        """Return the repositories of the service of this name: the desired one, and the one with a state."""
        desired, state = self.desired().get(name), self.states().get(name)
        return frozenset(({desired.service.repo} if desired else set()) | ({state.repo} if state else set()))

    def order_start(
        self, service: Service, folder: Path, order: str, sandbox: ServiceSandbox | None = None
    ) -> None:
        """Order the service to be up. Nothing changes if it is up, or if this order has started it."""
        with self._changing() as desired:
            before, now = desired.get(service.name), self.states().get(service.name)
            same = (
                before is not None
                and (before.service, before.folder) == (service, folder)
                and before.same_rules(sandbox)
            )
            if not (same and now is not None and now.state in UP_BY_ITSELF):
                self._order(desired, now, service, folder, order, sandbox)

    def order_restart(
        self, service: Service, folder: Path, order: str, sandbox: ServiceSandbox | None = None
    ) -> None:
        """Stop the service if it is up, and start it, unless this order has already done so."""
        with self._changing() as desired:
            self._order(desired, self.states().get(service.name), service, folder, order, sandbox)

    @staticmethod
    def _order(
        desired: dict[str, DesiredService],
        now: ServiceStatus | None,
        service: Service,
        folder: Path,
        order: str,
        sandbox: ServiceSandbox | None,
    ) -> None:
        """Order the service, unless this order was given before: a service stopped since then stays down."""
        before = desired.get(service.name) or now
        if before is None or before.order != order:
            if sandbox is not None:
                _refuse_more(service.name, desired)
            desired[service.name] = DesiredService(
                service=service, folder=folder, order=order, at=time.time(), sandbox=sandbox
            )

    def settled(self, name: str) -> ServiceStatus | None:
        """Return the state of a service whose start has ended: HEALTHY, FAILED, or STOPPED if it was stopped
        in the meantime. Return None while the start continues.

        Raises Unreachable if the supervisor does not answer.
        """
        one, now = self.desired().get(name), self.states().get(name)
        if one is None and now is None:
            raise Unreachable(f"service {name} was stopped in the meantime", "coord service list")
        if one is not None and (now is None or now.order != one.order):
            _, reported = self.stamps()  # a new supervisor begins with a report
            asked_at = max(one.at, reported[1] / 1e9 if reported else 0.0)
            if time.time() - asked_at > STARTED_S:
                raise self._silent(f"coord service start {name}")
            return None
        return now if now is not None and now.state in SETTLED else None

    def stop(self, name: str, stopped: Callable[[], bool]) -> ServiceStatus | None:
        """Stop the service; return its last state, None for a service that never was up."""
        with self._changing() as desired:
            if (one := desired.pop(name, None)) is None:
                return self.states().get(name)
        return self._await_stopped(name, one.service, stopped)

    def stop_all(self) -> tuple[str, ...]:
        """Stop all services of the machine, each before its dependencies; return their names."""
        names: list[str] = []
        while self.folder.is_dir() and (left := self.desired()):
            needed = {name for one in left.values() for name in one.service.depends_on}
            last = [name for name in left if name not in needed] or list(left)
            with self._changing() as desired:
                for name in last:
                    desired.pop(name, None)
            for name in last:
                self._await_stopped(name, left[name].service, lambda: False)
            names += last
        return tuple(names)

    @contextmanager
    def reserve_workers(self) -> Iterator[None]:
        """Let the workers of the machine execute only todos of services during the block. The lock ends with
        its process.
        """
        make_private(self.folder)
        with locked(self.folder / RESERVED):
            yield

    def workers_are_reserved(self) -> bool:
        """Return whether workers may execute only todos of services now."""
        file = self.folder / RESERVED
        return file.exists() and is_locked(file)

    def daemon(self, name: str) -> Daemon:
        """Return the process of a service, with its log."""
        return Daemon(self.folder / "processes", name)

    def private(self, name: str) -> Path:
        """Return the folder with the private folders of a service that runs in a sandbox."""
        return below(self.folder, "private", name)

    def report(self, states: Mapping[str, ServiceStatus]) -> None:
        """Write the states; called by the supervisor, and before it is started. Raises OSError."""
        replace_file(self._states, _STATES.dump_json(dict(states)), durable=False)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the desired services. Raises CoordinationError."""
        try:
            make_private(self.folder)
            make_private(self.folder / "processes")
            with locked(self.folder / "services.lock"):
                yield
        except OSError as error:
            raise CoordinationError(
                f"cannot write in {self.folder}: {error.strerror or error}",
                "make room or make the folder writable, then try again",
            ) from error

    @contextmanager
    def _changing(self) -> Iterator[dict[str, DesiredService]]:
        """Change the desired services, and start a supervisor if none runs."""
        with self.lock():
            before = self.desired()
            desired = dict(before)
            yield desired
            if desired != before:
                replace_file(self._desired_file, _DESIRED.dump_json(desired), durable=True)
            if not self.supervisor.running():
                self.report({name: one for name, one in self.states().items() if name not in desired})
                self.supervisor.start([*COMMAND, str(self.folder.parent)], cwd=self.folder, private=True)

    def _await_stopped(
        self, name: str, service: Service, stopped: Callable[[], bool]
    ) -> ServiceStatus | None:
        """Wait until the supervisor has stopped a service that is no longer desired. Raises Unreachable."""

        def ended() -> bool:
            now = self.states().get(name)
            return stopped() or now is None or now.state is ServiceState.STOPPED

        if not wait_until(ended, service.stop_grace.total_seconds() + STARTED_S, POLL_S):
            now = self.states().get(name)
            if service.unit_file and now and now.state is ServiceState.SHUTTING_DOWN:
                raise CoordinationError(
                    f"service {name} is not stopped: {now.why}", f"coord service stop {name}"
                )
            raise self._silent(f"coord service stop {name}")
        return self.states().get(name)

    def _silent(self, again: str) -> Unreachable:
        what = f"the supervisor of services does not answer:\n{self.supervisor.log_tail()}"
        return Unreachable(what, f"see {self.supervisor.log}, then: {again}")


def _refuse_more(name: str, desired: Mapping[str, DesiredService]) -> None:
    """Raise Conflict if the service would be one too many in a sandbox on this machine."""
    others = [one for one in desired if one != name and desired[one].sandbox is not None]
    if len(others) >= MOST_CONFINED:
        raise Conflict(
            f"service {name} is not started: {len(others)} services are up in sandboxes on this machine, the "
            "most that it keeps",
            "stop one first: coord service list; coord service stop NAME",
        )


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:  # none was written yet
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


LOG_END = 16 * 1024 * 1024
"""Maximum number of bytes of a log that are read."""
ANSWER_S = 20.0


def log_lines(host: ServiceHost, name: str, most: int, size_bytes: int = LOG_END) -> list[str]:
    """Return at most `most` last lines of a service's log, read from its last `size_bytes`. Raises
    FileNotFoundError; CoordinationError if the journal cannot be read.
    """
    status, desired = host.states().get(name), host.desired().get(name)
    if unit := (desired.service.unit_file if desired else status.unit if status else ""):
        return journal_lines(unit, most, size_bytes)
    with host.daemon(name).log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - min(size_bytes, most * 1000)))
        return file.read(size_bytes).decode(errors="replace").splitlines()[-most:]


def journal_lines(unit: str, most: int, size_bytes: int = LOG_END) -> list[str]:
    """Return at most `most` last lines of a user unit in the journal. Raises CoordinationError."""
    command = ["journalctl", "--no-pager", "--output", "cat", "--lines", str(most), "--user-unit", unit]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=without_ours(os.environ), cwd="/",
            timeout=ANSWER_S, check=False,
        )  # fmt: skip
        why = done.stderr.decode(errors="replace").strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        raise CoordinationError(f"the journal of {unit} cannot be read: {why}", f"try: {' '.join(command)}")
    return done.stdout[-size_bytes:].decode(errors="replace").splitlines()[-most:]
