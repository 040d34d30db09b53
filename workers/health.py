"""The health services of a worker: the monitor, looks at the remotes of the repositories that it serves, and
recoveries as runs.

Every worker that has the file has all of them; one of all monitors acts. A restricted worker has none: it may
write nothing but the results of its todos.

Each host looks at its own remotes, every five minutes, a few at once, each for five seconds at most: a remote
that hangs delays no other by more than its share. The look asks whether the remote can be reached, without
any secret of coord: a remote that asks for a password has answered.

The restart of a service is the todo `service.NAME`, as in `coord service restart`, so that people and the
monitor cannot change a service at the same time. A service that a person has stopped meanwhile stays down.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import redis
from redis import Redis

from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.ecosystem.document import load
from coordination.environment import UNATTENDED, without_ours
from coordination.errors import CoordinationError, NotFound
from coordination.events.stream import EventStream
from coordination.health.facts import REMOTE_EVERY_S, WORKS, FactSource, ServiceReport, repo_of
from coordination.health.monitor import HealthMonitor
from coordination.health.records import Health, Kind
from coordination.health.store import HealthStore, RemoteReport
from coordination.health.timetable import LOOK_S, TRIES, TRY_AGAIN_S
from coordination.locks import LockManager
from coordination.messages import MessageBus
from coordination.messages.bus import open_bus
from coordination.models import (
    Ecosystem,
    OnFailure,
    Retry,
    ServiceAction,
    ServiceStep,
    ShellAction,
    Strategy,
    Todo,
    Workspace,
    generated_id,
)
from coordination.planner.generated import generated_plan
from coordination.runs.connection import Connection
from coordination.runs.control.starting import start_generated
from coordination.runs.records import RunStatus
from coordination.runs.run_kinds import SERVICE
from coordination.runs.submission.submit import Order
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.services.host import ServiceHost, ServiceState
from coordination.services.view import on_all_hosts, published
from workers.config import ServedRepositories, WorkerConfig

AT_ONCE = 32
ANSWERS = ("Authentication failed", "could not read Username", "could not read Password", "Permission denied")
"""Messages of git which show that the remote has answered, and asks for a login."""

logger = logging.getLogger(__name__)


class RemoteLooks(BackgroundService):
    name = "remotes"
    interval_s = 1.0
    join_s = 0.0

    def __init__(
        self,
        store: HealthStore,
        declared: Callable[[], Ecosystem],
        served: Mapping[str, Path],
        host: str,
        *,
        every_s: float = REMOTE_EVERY_S,
    ) -> None:
        super().__init__()
        self._store, self._declared, self._served, self._host = store, declared, served, host
        self._every_s = every_s
        self._due: dict[str, float] = {}
        self._flying: dict[str, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def run_once(self) -> int:
        """Start the looks at remotes that are due; return their number."""
        now, urls = time.monotonic(), self._urls()
        self._flying = {repo: look for repo, look in self._flying.items() if not look.done()}
        self._forget(urls)
        for repo in urls:
            self._due.setdefault(repo, now + random.random() * min(10.0, self._every_s))  # noqa: S311
        due = [repo for repo in urls if self._due[repo] <= now and repo not in self._flying]
        if due and self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="remote")
        for repo in due:
            self._due[repo] = now + self._every_s * (0.9 + 0.1 * random.random())  # noqa: S311
            assert self._pool is not None
            self._flying[repo] = self._pool.submit(self._look, repo, urls[repo])
        return len(due)

    def finish(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def failed(self, error: Exception) -> float:
        if isinstance(error, redis.RedisError):
            return self.interval_s
        return super().failed(error)

    def _urls(self) -> dict[str, str]:
        repos = self._declared().repos
        return {repo.name: repo.url for repo in repos if repo.url and repo.name in self._served}

    def _forget(self, urls: Mapping[str, str]) -> None:
        if gone := [repo for repo in self._due if repo not in urls]:
            at = time.time()
            self._store.forget_remotes(
                RemoteReport(repo=repo, host=self._host, at=at, healthy=True) for repo in gone
            )
            for repo in gone:
                del self._due[repo]

    def _look(self, repo: str, url: str) -> None:
        for number in range(TRIES):
            began = time.monotonic()
            why = ls_remote(url)
            latency_s = time.monotonic() - began
            if not why or self.stopping.wait(TRY_AGAIN_S if number + 1 < TRIES else 0.0):
                break
        report = RemoteReport(
            repo=repo,
            host=self._host,
            at=time.time(),
            healthy=not why,
            why=why,
            latency_s=round(latency_s, 4),
        )
        try:
            self._store.report_remote(report)
        except redis.RedisError as error:  # the next look is reported
            logger.debug("the look at the remote of %s is not reported: %s", repo, error)


def ls_remote(url: str, timeout_s: float = LOOK_S) -> str:
    """Return why the remote does not answer; empty if it does."""
    command = ["git", "-c", "credential.helper=", "ls-remote", "--quiet", "--exit-code", "--", url, "HEAD"]
    env = {**without_ours(os.environ), **UNATTENDED, "LC_ALL": "C", "GIT_ASKPASS": "/bin/false"}
    env.setdefault("GIT_SSH_COMMAND", f"ssh -oBatchMode=yes -oConnectTimeout={timeout_s:g}")
    with subprocess.Popen(
        command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True, env=env,
    ) as process:  # fmt: skip
        try:
            _, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            return f"git ls-remote did not answer within {timeout_s:g} s"
    if process.returncode in (0, 2) or any(words in errors for words in ANSWERS):  # 2: it has no HEAD
        return ""
    lines = [line for line in errors.splitlines() if line.strip()]
    return (lines[-1] if lines else f"git ls-remote ended with {process.returncode}")[:300]


ACTOR = "coord (health)"
RECOVER = "recover"
MESSAGE = "health"
"""Type of the message which says that a recovery was given up."""


class RecoveryRuns:
    def __init__(
        self,
        connection: Callable[[], Connection],
        declared: Callable[[], Ecosystem],
        services: Callable[[], Iterable[ServiceReport]],
        bus: MessageBus,
    ) -> None:
        """`connection` opens the connection of the worker; `services` returns the services of all hosts that
        should be up.
        """
        self._open = connection
        self._declared = declared
        self._services = services
        self._bus = bus

    def begin(self, record: Health) -> str:
        """Start the run; return its id. Raises Conflict, NotFound, NotAllowed."""
        subject, declared = record.subject, self._declared()
        todo = self._restart(declared, subject.name) if subject.kind is Kind.SERVICE else None
        records, graph = generated_plan(
            declared,
            f"{RECOVER}:{subject.id.replace(':', '.')}",
            f"recover {subject.kind} {subject.name}",
            (todo or self._command(declared, subject.name),),
            repos=(subject.repo,),
            on_failure=OnFailure.CONTINUE,
        )
        order = Order(
            strategy=Strategy.DATAFLOW,
            reason="dataflow, as for all recoveries",
            on_failure=OnFailure.CONTINUE,
            max_parallel=None,
            actor=ACTOR,
            operation=SERVICE if todo else "execute",
            no_change_set=True,
        )
        hosts = {one.repo: one.host for one in self._services() if todo and one.name == subject.name}
        return start_generated(self._open(), records, graph, order, alone=True, hosts=hosts)

    def outcome(self, run: str) -> str | None:
        """Return why the run failed, "" if it succeeded, None while it continues."""
        if not run:
            return "its run is not known"
        status = self._open().store.status(run)
        if status is None:
            return f"its run {run} is gone"
        ended = RunStatus(status)
        if not ended.ended:
            return None
        return "" if ended is RunStatus.SUCCEEDED else f"run {run} {ended}: {self._why(run)}"

    def cancel(self, run: str) -> None:
        if run:
            connection = self._open()
            connection.dispatcher.follow(connection.store.cancel(run, ACTOR))

    def tell(self, record: Health) -> None:
        """Write to the inbox of the repository, and to its owner where that is a recipient."""
        repo = repo_of(self._declared(), record.subject.repo)
        owner = repo.owner if repo else None
        payload = {
            "subject": record.id,
            "state": record.state.value,
            "why": record.why,
            "recoveries": record.vain,
            "run": record.run,
            "next": f"coord health {record.subject.name}",
        }
        for recipient in filter(None, (f"repo:{record.subject.repo}", owner)):
            try:
                self._bus.register(recipient)  # it may never have got a message
                self._bus.send(recipient, MESSAGE, payload)
            except CoordinationError as error:
                logger.warning("%s is not told that %s is given up: %s", recipient, record.id, error.message)

    def _why(self, run: str) -> str:
        with suppress(CoordinationError):
            view = self._open().reader.read(run)
            return next((todo.error.partition("\n")[0] for todo in view.todos if todo.error), "")
        return ""

    @staticmethod
    def _restart(declared: Ecosystem, name: str) -> Todo:
        service = next((one for one in declared.coordination.services if one.name == name), None)
        if service is None:
            raise NotFound(f"service {name} is not declared any more", "stop it: coord service stop")
        return Todo(
            id=generated_id(f"{SERVICE}.{name}"),
            task=f"restart service {name}",
            repo=service.repo,
            action=ServiceAction(
                type="service",
                step=ServiceStep.RESTART,
                name=name,
                service=service,
                if_wanted=True,
            ),
            workspace=Workspace.WORKTREE,
            retry=Retry(attempts=1),
        )

    @staticmethod
    def _command(declared: Ecosystem, name: str) -> Todo:
        repo = repo_of(declared, name)
        if repo is None or repo.recover is None:
            raise NotFound(f"repository {name} has no command to recover it", "name one: `recover`")
        return Todo(
            id=generated_id(f"{RECOVER}.{name}"),
            task=f"recover repository {name}",
            repo=name,
            action=ShellAction(type="shell", run=repo.recover),
            workspace=Workspace.IN_PLACE,
            retry=Retry(attempts=1),
        )


DOWN_ON_PURPOSE = (ServiceState.STOPPED, ServiceState.SHUTTING_DOWN)


class DeclaredFile:
    """The records of the file, read again when it has changed. An invalid file does not replace them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._known: Ecosystem | None = None

    def __call__(self) -> Ecosystem:
        """Return the records. Raises CoordinationError where the file was never valid."""
        try:
            found = self._file.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._known is None or stamp != self._stamp:
                self._known, self._stamp = load(self._file).ecosystem, stamp
        except (CoordinationError, OSError) as error:
            if self._known is None:
                raise
            logger.debug("%s cannot be read, its former content holds: %s", self._file, error)
        return self._known


class HealthParts:
    def __init__(
        self, config: WorkerConfig, redis: Redis, keys: Keys, worker: Worker, served: ServedRepositories
    ) -> None:
        assert config.file is not None
        self._config, self._redis, self._keys = config, redis, keys
        self._worker, self._served = worker, served
        self._file = config.file
        self._declared = DeclaredFile(config.file)

    @cached_property
    def services(self) -> Sequence[BackgroundService]:
        """Return the background services; none for a restricted worker."""
        if self._config.settings.restricted:
            return ()
        store = HealthStore(self._redis, self._keys)
        remotes = RemoteLooks(store, self._declared, self._served, self._worker.host)
        return (self._monitor(store), remotes)

    def _monitor(self, store: HealthStore) -> HealthMonitor:
        settings, namespace = self._config.settings, self._keys.namespace
        bus = open_bus(self._redis, settings, self._worker.id)
        return HealthMonitor(
            store,
            FactSource(self._redis, self._keys, self._declared, self._reports),
            EventStream(self._redis, namespace),
            LockManager(self._redis, namespace),
            BreakerManager(self._redis, namespace, policy=Policy.of(settings)),
            RecoveryRuns(lambda: self._connection, self._declared, self._reports, bus),
            label=self._worker.id,
            lease=settings.lease_ttl,
            every=settings.health_interval,
        )

    @cached_property
    def _connection(self) -> Connection:
        """A connection for the runs of recoveries."""
        return Connection(
            self._config.redis_url,
            self._config.settings,
            self._config.ecosystem_id,
            changed_folders=lambda: tuple(self._served.values()),
        )

    def _reports(self) -> Sequence[ServiceReport]:
        registry = WorkerRegistry(self._redis, self._keys)
        return service_reports(self._config.state, self._worker.host, registry)


def service_reports(state: Path, here: str, registry: WorkerRegistry) -> Sequence[ServiceReport]:
    """Return the services of all hosts that are to be up, one report each: of a host where it does not work,
    if there is one. `state`: the state folder of the host `here`.
    """
    found = sorted(_reports(state, here, registry), key=lambda one: one.state in WORKS, reverse=True)
    return tuple({one.name: one for one in found}.values())


def _reports(state: Path, here: str, registry: WorkerRegistry) -> Iterator[ServiceReport]:
    host = ServiceHost(state)
    desired = host.desired()
    for name, found in on_all_hosts(here, host.states(), published(registry)).items():
        for one in found:
            status = one.status
            if status.state in DOWN_ON_PURPOSE or (one.host == here and name not in desired):
                continue
            report = ServiceReport(
                name=name, repo=status.repo, host=one.host, state=status.state, why=status.why,
                latency_s=status.latency_s, away=one.away,
            )  # fmt: skip
            was = f"no worker there; {one.age_s:.0f} s ago it was {status.state}"
            yield replace(report, state=ServiceState.UNREACHABLE, why=was) if one.away else report
