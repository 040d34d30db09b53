"""Processes of one ecosystem on this machine: the embedded server, one worker process, Flower and the
dashboard, counted by their users.

A process that needs one of them registers as a user and starts it if necessary; the last user to leave stops
the processes that nobody needs. Detaching leaves a permanent user, until `coord down`. A killed user is not
counted, but the processes that it needed keep running: only a user that needs a worker stops one, so that
inspecting a run never ends it.

A user that needs a worker also restarts processes that die, in a thread (supervision.py); for the permanent
user, a separate process does so, the supervisor.

With a configured Redis, nothing is started or counted here, because its server and workers are managed
elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from coordination.backend.client import Profile, connect, reaching
from coordination.backend.daemon import Daemon, Record, Step, alive
from coordination.backend.embedded import EmbeddedServer, prepare_state
from coordination.backend.keys import Keys
from coordination.errors import CoordinationError, Unreachable, UsageError
from coordination.files import locked
from coordination.operations.state import Need, Users, state_folder
from coordination.operations.supervision import LIMIT, Restart, Restarts, Revival, delay_s
from coordination.processes import DUMP_STACKS
from coordination.runs.worker_registry import WorkerRegistry
from coordination.settings import Settings

if TYPE_CHECKING:
    from coordination.operations.pages import Access


def worker_answers(namespace: str, url: str, pid: int) -> bool:
    """Return whether the worker with this pid has sent a heartbeat recently."""
    with closing(connect(url, Profile.COMMAND)) as client, reaching(url):
        return WorkerRegistry(client, Keys(namespace)).answers(pid)


FINISH_S = 10.0
"""Time for a stopping worker to finish its todos, before a second signal makes it return them."""
WORKER_COMMAND = (sys.executable, "-P", "-m", "workers")
"""-P keeps Python from importing a folder named `workers` in the working directory."""
SUPERVISOR_COMMAND = (sys.executable, "-P", "-m", "coordination.operations.supervisor")

Ready = Callable[[str, int], bool]
"""Return whether the worker with this pid answers through the Redis at this URL."""


def _nothing() -> None:
    """Do nothing between the stops of the worker and the server."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """Processes that `up` started or joined."""

    url: str
    worker: int
    flower: Access | None
    dashboard: str | None = None
    """Its address."""


@dataclass(frozen=True, kw_only=True)
class Stopped:
    name: str
    pid: int


class Local:
    """The processes of one ecosystem on this machine, with this process as one of their users."""

    def __init__(
        self,
        ecosystem: Path,
        settings: Settings,
        *,
        ready: Ready | None = None,
        worker_command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self.ecosystem = ecosystem.resolve()
        self.state = state_folder(self.ecosystem)
        self.server = EmbeddedServer(self.state, settings)
        self._settings = settings
        self._ready = ready or partial(worker_answers, settings.namespace)
        self._worker_command = tuple(worker_command)
        self._worker = Daemon(self.state, "worker")
        self._flower = Daemon(self.state, "flower")
        self._dashboard = Daemon(self.state, "dashboard-server")
        self._supervisor = Daemon(self.state, "supervisor")
        self._users = Users(self.state / "users")
        self.restarts = Restarts(self.state)
        self._reported_until = time.time()
        self._revival = Revival(lambda: self.revive(self._users.mine))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def ensure_server(self) -> str:
        """Return the URL of Redis; start the embedded server if none is configured."""
        if self._settings.redis_url:
            return self._settings.redis_url
        try:
            with self._locked():
                self._users.join(Need.SERVER)
                self._ensure_supervisor()
                return self.server.start()
        except CoordinationError as refused:
            # On a full disk, commands that help to free space can use a running server.
            full = isinstance(refused.__cause__, OSError) and refused.__cause__.errno in (
                errno.ENOSPC,
                errno.EDQUOT,
            )
            if not full or (url := self.server.url) is None:
                raise
            return url

    def ensure_worker(self, jobs: int | None = None, *, meanwhile: Callable[[], object] | None = None) -> str:
        """Return the URL of Redis after starting a worker for all repositories; with a configured Redis, only
        the URL.

        `meanwhile` is called while the worker starts, which takes most of a second.
        """
        if self._settings.redis_url:
            return self._settings.redis_url
        with self._locked():
            self._users.join(Need.WORKER)
            self._ensure_supervisor()
            url = self.server.start()
            self._start_worker(url, jobs, meanwhile)
            self._revival.start()
            return url

    def up(self, *, with_flower: bool, with_dashboard: bool = False, jobs: int | None = None) -> Running:
        """Start server, worker, and optionally Flower and the dashboard, and wait until they answer."""
        from coordination.operations import pages

        if self._settings.redis_url:
            raise UsageError(
                "redis_url is set, so there is nothing to start on this machine",
                "start workers where the repositories are: coord worker --all; "
                "or remove redis_url to use `up`",
            )
        with self._locked():
            self._users.join(Need.FLOWER if with_flower or with_dashboard else Need.WORKER)
            url = self.server.start()
            worker = self._start_worker(url, jobs)
            if with_flower:
                self.restarts.forget({self._flower.name})
            if with_dashboard:
                self.restarts.forget({self._dashboard.name})
            access = pages.start_flower(self._flower, url, self._settings) if with_flower else None
            page = None
            if with_dashboard:
                page = pages.start_dashboard(self._dashboard, self.ecosystem, url, self._settings)
            self._ensure_supervisor()
            self._revival.start()
            return Running(url=url, worker=worker.pid, flower=access, dashboard=page)

    def dashboard_url(self) -> str | None:
        """Return the address of the dashboard that `up` started, if it runs."""
        from coordination.operations import pages

        record = self._dashboard.running()
        return pages.dashboard_url(record) if record else None

    def detach(self) -> None:
        """Keep the processes that this one needs running after it has ended, until `down`."""
        if self._users.mine is Need.NOTHING:
            return
        with self._locked():
            self._users.stay(self._users.mine)
            self._ensure_supervisor()

    def leave(self, after_worker: Callable[[], object] = _nothing) -> tuple[Stopped, ...]:
        """Unregister this process and stop what no other process needs; return what was stopped.
        `after_worker` is called where no worker is needed, before the server stops.
        """
        if self._users.mine is Need.NOTHING:
            return ()
        self._revival.stop()
        with self._locked():
            mine = self._users.leave()
            if mine < Need.WORKER and self._worker.running():
                return ()
            return self._stop_unneeded(self._users.needed(), after_worker)

    def down(self, after_worker: Callable[[], object] = _nothing) -> tuple[Stopped, ...]:
        """Stop everything that was started here, regardless of users; return what was stopped. Runs continue
        at the next start. `after_worker` is called before the server stops.
        """
        if not self.state.is_dir():
            return ()
        with self._locked():
            self._users.forget()
            return self._stop_unneeded(Need.NOTHING, after_worker)

    def live_runs(self) -> tuple[str, ...]:
        """Return the runs on the local server that have not ended; () if it does not answer."""
        from coordination.runs.store import RunStore

        if not (url := self.server.url):
            return ()
        with closing(connect(url, Profile.COMMAND)) as client:
            try:
                with reaching(url):
                    return tuple(RunStore(client, self._settings.namespace).live_runs())
            except Unreachable:
                return ()

    def keep_over_exec(self) -> None:
        """Keep this process registered as a user when it becomes another program (exec)."""
        self._users.keep_over_exec()

    @property
    def lasting(self) -> Need:
        """Processes that stay until `down`."""
        return self._users.lasting

    def taken_down(self) -> bool:
        """Return whether `down` was called. A process that died by itself leaves its record behind."""
        daemons = (self.server.daemon, self._worker)
        if all(daemon.record() for daemon in daemons):
            return False
        with self._locked():  # a process that is being replaced has no record for a moment
            return not all(daemon.record() for daemon in daemons)

    def revive(self, need: Need) -> None:
        """Restart dead processes that `need` includes, unless they must wait or were given up."""
        if need < Need.WORKER or not any(self._dead(need)):
            return
        with self._locked():
            for daemon, died in self._dead(need):
                self._revive(daemon, died)
                if daemon is self.server.daemon and not daemon.running():
                    return  # the others need the server

    def news(self) -> list[str]:
        """Return descriptions of restarts since the last call. Raises Unreachable for a process that was
        given up.
        """
        fresh = [restart for restart in self.restarts.read() if restart.at > self._reported_until]
        self._reported_until = max([self._reported_until, *(restart.at for restart in fresh)])
        for restart in fresh:
            page = restart.name in (self._flower.name, self._dashboard.name)
            if restart.given_up and (not page or self._users.mine is Need.FLOWER):
                raise self._given_up(restart)
        return [
            f"the {restart.name} (pid {restart.died}) died; {_restart_outcome(restart)}" for restart in fresh
        ]

    @property
    def _parts(self) -> tuple[tuple[Daemon, Need], ...]:
        """The processes, the server first, each with the least need that includes it."""
        return (
            (self.server.daemon, Need.SERVER),
            (self._worker, Need.WORKER),
            (self._flower, Need.FLOWER),
            (self._dashboard, Need.FLOWER),
        )

    def _dead(self, need: Need) -> Iterator[tuple[Daemon, Record]]:
        """Yield processes that `need` includes and that died by themselves, the server first."""
        for daemon, least in self._parts:
            record = daemon.record()
            if record and need >= least and not alive(record):
                yield daemon, record

    def _revive(self, daemon: Daemon, died: Record) -> None:
        recent = [restart for restart in self.restarts.recent() if restart.name == daemon.name]
        wait_s = delay_s(recent, time.time())
        if wait_s is None:
            if not any(restart.given_up for restart in recent):
                daemon.note(f"the {daemon.name} (pid {died.pid}) died again and is not restarted")
                self.restarts.add(Restart(name=daemon.name, at=time.time(), died=died.pid, given_up=True))
        elif wait_s == 0:
            so_often = f"{len(recent) + 1} of at most {LIMIT} times in five minutes"
            daemon.note(f"the {daemon.name} (pid {died.pid}) died, and is restarted ({so_often})")
            pid = self._start_again(daemon, died)
            self.restarts.add(Restart(name=daemon.name, at=time.time(), died=died.pid, pid=pid))

    def _start_again(self, daemon: Daemon, died: Record) -> int:
        """Return the new pid; 0 if the process did not start, which is in its log."""
        from coordination.operations import pages

        try:
            if daemon is self._flower:
                return pages.restart_flower(daemon, died, self._settings).pid
            if daemon is self._dashboard:
                url, port = died.facts["redis"], int(died.facts["port"])
                return pages.launch_dashboard(daemon, self.ecosystem, url, self._settings, port).pid
            if daemon is self._worker:
                jobs = died.facts.get("jobs")
                return self._launch_worker(self.server.start(), int(jobs) if jobs else None).pid
            self.server.start()
        except (CoordinationError, OSError) as error:
            daemon.note(f"the {daemon.name} cannot be started: {error}")
        record = daemon.running()
        return record.pid if record else 0

    def _given_up(self, restart: Restart) -> CoordinationError:
        daemon = next(daemon for daemon, _ in self._parts if daemon.name == restart.name)
        without = {self._flower.name: "--no-flower", self._dashboard.name: "--no-dashboard"}.get(daemon.name)
        instead = f"coord up {without} continues without it" if without else "runs will continue"
        return Unreachable(
            f"the {daemon.name} died {LIMIT + 1} times within five minutes and is not "
            f"restarted:\n{daemon.log_tail()}",
            f"fix the error (more in {daemon.log}), then: coord up; {instead}",
        )

    def _ensure_supervisor(self) -> None:
        """Start the supervisor if a permanent user needs a worker."""
        if self.lasting >= Need.WORKER and not self._supervisor.running():
            self._supervisor.start([*SUPERVISOR_COMMAND, str(self.ecosystem)], cwd=self.ecosystem.parent)

    def _start_worker(
        self, url: str, jobs: int | None, meanwhile: Callable[[], object] | None = None
    ) -> Record:
        from coordination.operations import pages

        self.restarts.forget({self.server.daemon.name, self._worker.name})
        return pages.join_or_start(
            self._worker,
            url,
            launch=lambda: self._launch_worker(url, jobs),
            answers=lambda record: self._ready(url, record.pid),
            title="the worker",
            stop_steps=self._worker_steps(),
            meanwhile=meanwhile,
            dump_stacks=DUMP_STACKS,
        )

    def _launch_worker(self, url: str, jobs: int | None) -> Record:
        secret = bool(urlsplit(url).password)  # a command line is visible to all users
        command = [*self._worker_command, "--all", "--ecosystem", str(self.ecosystem)]
        command += ["--state", str(self.state)]
        command += [] if secret else ["--redis", url]
        command += ["--jobs", str(jobs)] if jobs else []
        env = {"COORD_REDIS_URL": url} if secret else {}
        facts = {"redis": url} | ({"jobs": str(jobs)} if jobs else {})
        return self._worker.start(command, env=env, facts=facts, cwd=self.ecosystem.parent)

    def _stop_unneeded(self, need: Need, after_worker: Callable[[], object]) -> tuple[Stopped, ...]:
        """Stop the processes above `need`, the worker first, so that it can return its todos while the server
        runs.
        """
        if need < Need.WORKER:
            self._supervisor.stop()
        worker = self._worker.stop(self._worker_steps()) if need < Need.WORKER else None
        if need < Need.WORKER:
            after_worker()
        stopped = [
            ("worker", worker),
            ("Flower", self._flower.stop() if need < Need.FLOWER else None),
            ("dashboard", self._dashboard.stop() if need < Need.FLOWER else None),
            ("server", self.server.stop() if need < Need.SERVER else None),
        ]
        for daemon, least in self._parts:
            if need < least:
                daemon.forget()  # one that had died would be restarted by a process that still needs it
        return tuple(Stopped(name=name, pid=record.pid) for name, record in stopped if record)

    def _worker_steps(self) -> tuple[Step, ...]:
        hand_back_s = self._settings.kill_grace.total_seconds() + 5
        return (signal.SIGTERM, FINISH_S), (signal.SIGTERM, hand_back_s), (signal.SIGKILL, 10.0)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            prepare_state(self.state)
            with locked(self.state / "fleet.lock"):
                yield
        except OSError as error:
            raise CoordinationError(
                f"cannot write in {self.state}: {error.strerror or error}",
                "make room or make the folder writable, then try again; or name a Redis with --redis URL",
            ) from error


def _restart_outcome(restart: Restart) -> str:
    if restart.given_up:
        return "it is not restarted"
    return f"restarted as pid {restart.pid}" if restart.pid else "it could not be started and is tried again"
