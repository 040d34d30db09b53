"""What the fleet asks the running server: does a worker answer, which runs are under way.

What runs on this machine for one ecosystem: the embedded server, one worker process, Flower; counted by its users.

Whoever needs something joins as a user and gets it started if nobody has; the last one to leave stops what nobody needs
any more. Detaching leaves a user that never dies, until `coord down`. A user that was killed does not count, but what it
needed goes on: only somebody who needs a worker stops one, so that looking at a run never ends it.

Who needs a worker also looks after what runs here, in a thread: what has died is started again (supervision.py). For the user
that never dies a process of its own does so, the supervisor.

With a configured Redis nothing is started or counted here: its server and workers are somebody else's.
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
from typing import Self
from urllib.parse import urlsplit

from coordination.backend.client import Profile, connect, reaching
from coordination.backend.daemon import Daemon, Record, Step, alive, wait_until
from coordination.backend.embedded import EmbeddedServer, prepare_state
from coordination.backend.keys import Keys
from coordination.errors import CoordinationError, Unreachable, UsageError
from coordination.files import locked
from coordination.operations import flower
from coordination.operations.folder import state_folder
from coordination.operations.supervision import LIMIT, Restart, Restarts, Revival, delay_s
from coordination.operations.users import Need, Users
from coordination.runs.presence import Presence
from coordination.runs.store import RunStore
from coordination.settings import Settings


def worker_answers(namespace: str, url: str, pid: int) -> bool:
    """Whether the worker of this pid has been heard of lately."""
    with closing(connect(url, Profile.COMMAND)) as client, reaching(url):
        return Presence(client, Keys(namespace)).answers(pid)


def live_runs(namespace: str, url: str) -> tuple[str, ...]:
    """The runs that have not ended; none when the server does not say."""
    with closing(connect(url, Profile.COMMAND)) as client:
        try:
            with reaching(url):
                return tuple(RunStore(client, namespace).live_runs())
        except Unreachable:
            return ()


WORKER_TIMEOUT_S = 60.0
FINISH_S = 10.0
"""How long a stopping worker may finish what it has begun, before it is told to hand that back."""
WORKER_COMMAND = (sys.executable, "-P", "-m", "workers")
"""-P: a folder named `workers` where the user happens to stand must not be taken for ours."""
SUPERVISOR_COMMAND = (sys.executable, "-P", "-m", "coordination.operations.supervisor")

Ready = Callable[[str, int], bool]
"""Whether the worker of this pid answers through the Redis of this URL."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """What `up` started or joined."""

    url: str
    worker: int
    flower: flower.Access | None


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
        self._supervisor = Daemon(self.state, "supervisor")
        self._users = Users(self.state / "users")
        self.restarts = Restarts(self.state)
        self._told_until = time.time()
        self._revival = Revival(lambda: self.revive(self._users.mine))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def ensure_server(self) -> str:
        """The URL of the Redis to use; the embedded server is started if none is configured."""
        if self._settings.redis_url:
            return self._settings.redis_url
        try:
            with self._locked():
                self._users.join(Need.SERVER)
                self._keep_supervised()
                return self.server.start()
        except CoordinationError as refused:  # what shows how to make room needs no more than the server that is there
            full = isinstance(refused.__cause__, OSError) and refused.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
            if not full or (url := self.server.url) is None:
                raise
            return url

    def ensure_worker(self, jobs: int | None = None, *, meanwhile: Callable[[], object] | None = None) -> str:
        """The URL of the Redis to use, with a worker for every repo answering; with a configured Redis only the URL.

        `meanwhile`: done by us while the worker starts, for that takes most of a second.
        """
        if self._settings.redis_url:
            return self._settings.redis_url
        with self._locked():
            self._users.join(Need.WORKER)
            self._keep_supervised()
            url = self.server.start()
            self._start_worker(url, jobs, meanwhile)
            self._revival.start()
            return url

    def up(self, *, with_flower: bool, jobs: int | None = None) -> Running:
        """Server, worker and, when asked, Flower, all answering."""
        if self._settings.redis_url:
            raise UsageError(
                "redis_url is set, so there is nothing to start here",
                "start workers where the repositories are: coord worker --all; or take redis_url out to use `up`",
            )
        with self._locked():
            self._users.join(Need.FLOWER if with_flower else Need.WORKER)
            url = self.server.start()
            worker = self._start_worker(url, jobs)
            if with_flower:
                self.restarts.forget({self._flower.name})
            access = flower.start(self._flower, url, self._settings) if with_flower else None
            self._keep_supervised()
            self._revival.start()
            return Running(url=url, worker=worker.pid, flower=access)

    def detach(self) -> None:
        """What we need stays when we leave, until `down`."""
        if self._users.mine is Need.NOTHING:
            return
        with self._locked():
            self._users.stay(self._users.mine)
            self._keep_supervised()

    def leave(self) -> tuple[Stopped, ...]:
        """Count this process no more, and stop what nobody needs now; returns what was stopped."""
        if self._users.mine is Need.NOTHING:
            return ()
        self._revival.stop()
        with self._locked():
            mine = self._users.leave()
            if mine < Need.WORKER and self._worker.running():
                return ()
            return self._stop_above(self._users.needed())

    def down(self) -> tuple[Stopped, ...]:
        """Stop all that was started here, whoever needs it; returns what was stopped. Runs go on at the next start."""
        if not self.state.is_dir():
            return ()
        with self._locked():
            self._users.forget()
            return self._stop_above(Need.NOTHING)

    def live_runs(self) -> tuple[str, ...]:
        """The runs that the server here knows to be under way; none when it is not running."""
        url = self.server.url
        return live_runs(self._settings.namespace, url) if url else ()

    def keep_over_exec(self) -> None:
        """We are about to become another program (exec), and stay the user that we are."""
        self._users.keep_over_exec()

    @property
    def lasting(self) -> Need:
        """What stays here until `down`."""
        return self._users.lasting

    def taken_down(self) -> bool:
        """Whether somebody said `down`: what died by itself leaves its record behind."""
        daemons = (self.server.daemon, self._worker)
        if all(daemon.record() for daemon in daemons):
            return False
        with self._locked():  # one that is replaced has none for a moment
            return not all(daemon.record() for daemon in daemons)

    def revive(self, need: Need) -> None:
        """Start again what has died and is part of `need`, unless it has to wait for its turn or is given up."""
        if need < Need.WORKER or not any(self._dead(need)):
            return
        with self._locked():
            for daemon, died in self._dead(need):
                self._revive(daemon, died)
                if daemon is self.server.daemon and not daemon.running():
                    return  # the others live by it

    def news(self) -> list[str]:
        """What was started again since the last call, in words. Raises Unreachable for what was given up since."""
        fresh = [restart for restart in self.restarts.read() if restart.at > self._told_until]
        self._told_until = max([self._told_until, *(restart.at for restart in fresh)])
        for restart in fresh:
            if restart.given_up and (restart.name != self._flower.name or self._users.mine is Need.FLOWER):
                raise self._given_up(restart)
        return [f"the {restart.name} (pid {restart.died}) died; {_what_follows(restart)}" for restart in fresh]

    def _dead(self, need: Need) -> Iterator[tuple[Daemon, Record]]:
        """What is part of the need and died by itself; the server first."""
        parts = ((self.server.daemon, Need.SERVER), (self._worker, Need.WORKER), (self._flower, Need.FLOWER))
        for daemon, least in parts:
            record = daemon.record()
            if record and need >= least and not alive(record):
                yield daemon, record

    def _revive(self, daemon: Daemon, died: Record) -> None:
        recent = [restart for restart in self.restarts.recent() if restart.name == daemon.name]
        wait_s = delay_s(recent, time.time())
        if wait_s is None:
            if not any(restart.given_up for restart in recent):
                daemon.note(f"the {daemon.name} (pid {died.pid}) died once more, and is not started again")
                self.restarts.add(Restart(name=daemon.name, at=time.time(), died=died.pid, given_up=True))
        elif wait_s == 0:
            so_often = f"{len(recent) + 1} of at most {LIMIT} times in five minutes"
            daemon.note(f"the {daemon.name} (pid {died.pid}) died, and is started again ({so_often})")
            pid = self._start_again(daemon, died)
            self.restarts.add(Restart(name=daemon.name, at=time.time(), died=died.pid, pid=pid))

    def _start_again(self, daemon: Daemon, died: Record) -> int:
        """The pid of the new one; 0 where it did not start, as its log says."""
        try:
            if daemon is self._flower:
                return flower.start_again(daemon, died, self._settings).pid
            if daemon is self._worker:
                jobs = died.facts.get("jobs")
                return self._launch_worker(self.server.start(), int(jobs) if jobs else None).pid
            self.server.start()
        except (CoordinationError, OSError) as error:
            daemon.note(f"the {daemon.name} cannot be started: {error}")
        record = daemon.running()
        return record.pid if record else 0

    def _given_up(self, restart: Restart) -> CoordinationError:
        daemon = next(one for one in (self.server.daemon, self._worker, self._flower) if one.name == restart.name)
        instead = "coord up --no-flower does without it" if daemon is self._flower else "runs go on where they were"
        return Unreachable(
            f"the {daemon.name} died {LIMIT + 1} times within five minutes and is not started again; it says:\n"
            f"{daemon.log_tail()}",
            f"correct what it says (more in {daemon.log}), then: coord up; {instead}",
        )

    def _keep_supervised(self) -> None:
        """What stays has a supervisor, for as long as it stays."""
        if self.lasting >= Need.WORKER and not self._supervisor.running():
            self._supervisor.start([*SUPERVISOR_COMMAND, str(self.ecosystem)], cwd=self.ecosystem.parent)

    def _start_worker(self, url: str, jobs: int | None, meanwhile: Callable[[], object] | None = None) -> Record:
        record = self._worker.running()
        if record and record.facts["redis"] != url:
            self._worker.stop(self._worker_steps())  # it serves a server that is no more
            record = None
        self.restarts.forget({self.server.daemon.name, self._worker.name})
        record = record or self._launch_worker(url, jobs)
        if meanwhile is not None:
            meanwhile()
        wait_until(lambda: not alive(record) or self._ready(url, record.pid), WORKER_TIMEOUT_S)
        if not alive(record):
            raise self._worker_failed("ended while it started")
        if not self._ready(url, record.pid):
            raise self._worker_failed(f"(pid {record.pid}) does not answer")
        return record

    def _launch_worker(self, url: str, jobs: int | None) -> Record:
        secret = bool(urlsplit(url).password)  # a password on a command line is everybody's
        command = [*self._worker_command, "--all", "--ecosystem", str(self.ecosystem), "--state", str(self.state)]
        command += [] if secret else ["--redis", url]
        command += ["--jobs", str(jobs)] if jobs else []
        env = {"COORD_REDIS_URL": url} if secret else {}
        facts = {"redis": url} | ({"jobs": str(jobs)} if jobs else {})
        return self._worker.start(command, env=env, facts=facts, cwd=self.ecosystem.parent)

    def _worker_failed(self, how: str) -> CoordinationError:
        return Unreachable(
            f"the worker {how}; it says:\n{self._worker.log_tail()}",
            f"correct what it says (more in {self._worker.log}) and try again",
        )

    def _stop_above(self, need: Need) -> tuple[Stopped, ...]:
        """The worker first: it gives back what it holds while its server is still there."""
        if need < Need.WORKER:
            self._supervisor.stop()
        stopped = [
            ("worker", self._worker.stop(self._worker_steps()) if need < Need.WORKER else None),
            ("Flower", self._flower.stop() if need < Need.FLOWER else None),
            ("server", self.server.stop() if need < Need.SERVER else None),
        ]
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


def _what_follows(restart: Restart) -> str:
    if restart.given_up:
        return "it is not started again"
    return f"started again as pid {restart.pid}" if restart.pid else "it could not be started, and is tried again"
