"""Facts about an ecosystem, the subjects that follow from them, and a look at each subject.

The rules are pure; `FactSource` gathers the facts from Redis, the file and the supervisors. The leader cannot
read the disks of other machines: workers report folders and disks with each heartbeat, and remotes every five
minutes; supervisors report services.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from redis import Redis

from coordination.backend.keys import Keys
from coordination.health.records import Kind, Look, Subject
from coordination.health.remotes import REMOTE_EVERY_S
from coordination.health.store import HealthStore, RemoteReport
from coordination.models import Ecosystem, Repo, Service
from coordination.runs.worker_registry import Worker, WorkerRegistry

REPORT_VALID_S = 3 * REMOTE_EVERY_S
"""Age in seconds from which a report on a remote is ignored."""
GROWS_FOR_S = 300.0
GROWS_BY = 10
"""A queue grows if it has this many messages more than GROWS_FOR_S ago and has not become shorter since."""


@dataclass(frozen=True, kw_only=True)
class ServiceReport:
    """The state of a service that should be up, as the supervisor of its host reports it."""

    name: str
    repo: str
    host: str
    state: str
    """A state of `services.host.ServiceState`."""
    why: str = ""
    latency_s: float | None = None
    away: bool = False
    """True if no worker of the host serves the repository, so that nothing can restart the service."""


WORKS = ("healthy", "starting", "recovering", "shutting_down")
"""States of a service that works, or that its supervisor already handles."""
SILENT = ("unreachable",)


@dataclass(frozen=True, kw_only=True)
class Observations:
    now: float
    workers: tuple[Worker, ...] = ()
    services: Mapping[str, ServiceReport] = field(default_factory=dict)
    """Services that should be up, by name."""
    remotes: Mapping[str, tuple[RemoteReport, ...]] = field(default_factory=dict)
    growing: Mapping[str, str] = field(default_factory=dict)
    """Repository → phrase about the growth of its queue."""
    disconnected: Collection[str] = ()


def subjects_of(declared: Ecosystem, seen: Observations) -> Iterator[Subject]:
    """Yield all subjects. A repository is required if one of its required services should be up."""
    services = {one.name: one for one in declared.coordination.services}
    desired = [services[name] for name in seen.services if name in services]
    required = {one.repo for one in desired if one.required}
    for repo in declared.repos:
        connected = repo.name not in seen.disconnected
        yield Subject(
            kind=Kind.REPO,
            name=repo.name,
            repo=repo.name,
            required=repo.name in required,
            recoverable=repo.recover is not None,
            connected=connected,
        )
        if _remote_reports(repo.name, seen):
            yield Subject(kind=Kind.REMOTE, name=repo.name, repo=repo.name, connected=connected)
    for service in desired:
        yield _of_service(service, seen)
    for host in sorted({worker.host for worker in seen.workers}):
        yield Subject(kind=Kind.DISK, name=host)


def _of_service(service: Service, seen: Observations) -> Subject:
    return Subject(
        kind=Kind.SERVICE,
        name=service.name,
        repo=service.repo,
        required=service.required,
        recoverable=not seen.services[service.name].away,
        connected=service.repo not in seen.disconnected,
    )


def look_at(subject: Subject, seen: Observations) -> Look:
    """Return the result of a look at the subject, by the facts."""
    match subject.kind:
        case Kind.REPO:
            return _repo(subject.name, seen)
        case Kind.REMOTE:
            return _remote(subject.name, seen)
        case Kind.SERVICE:
            return _service(seen.services.get(subject.name))
        case Kind.DISK:
            return _disk(subject.name, seen)


def _repo(repo: str, seen: Observations) -> Look:
    serving = [worker for worker in seen.workers if repo in worker.repos]
    method = f"worker on {', '.join(sorted({one.host for one in serving}))}" if serving else "workers"
    if not serving:
        return Look(healthy=False, why="no living worker serves it", method=method, reported=False)
    broken = {w.host: w.unfit.get(repo) or w.broken.get(repo, "") for w in serving}
    whys = [f"on host {host} {why}" for host, why in sorted(broken.items()) if why]
    if grows := seen.growing.get(repo):
        whys.append(grows)
    return Look(healthy=not whys, why="; ".join(whys), method=method)


def _remote(repo: str, seen: Observations) -> Look:
    reports = _remote_reports(repo, seen)
    bad = [f"from host {one.host}: {one.why}" for one in reports if not one.healthy]
    return Look(
        healthy=not bad,
        why="; ".join(bad),
        method="git ls-remote",
        latency_s=max((one.latency_s for one in reports), default=None),
        reported=not bad,
        final=True,
    )


def _remote_reports(repo: str, seen: Observations) -> list[RemoteReport]:
    """Return the last reports of the hosts that serve the repository; without reports it is no subject."""
    if repo not in seen.remotes:
        return []
    serving = {worker.host for worker in seen.workers if repo in worker.repos}
    fresh = (one for one in seen.remotes[repo] if seen.now - one.at < REPORT_VALID_S)
    return [one for one in fresh if one.host in serving]


def _service(report: ServiceReport | None) -> Look:
    if report is None:  # it was stopped after the subjects were listed
        return Look(healthy=True)
    method = f"supervisor on {report.host}"
    why = f"{report.state} on host {report.host}: {report.why}"
    healthy = report.state in WORKS
    return Look(
        healthy=healthy,
        why="" if healthy else why,
        method=method,
        latency_s=report.latency_s,
        reported=report.state not in SILENT,
    )


def _disk(host: str, seen: Observations) -> Look:
    short = sorted({worker.short for worker in seen.workers if worker.host == host and worker.short})
    return Look(healthy=not short, why="; ".join(short), method="worker")


class QueueWatch:
    """Remembers the lengths of queues, and finds those that grow."""

    def __init__(self) -> None:
        self._begun: defaultdict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        self._last: dict[str, int] = {}

    def growing(self, lengths: Mapping[str, int], now: float) -> Mapping[str, str]:
        """Return repository → phrase about the growth of its queue. `lengths`: repository → number of
        messages.
        """
        found: dict[str, str] = {}
        for repo, length in lengths.items():
            if repo not in self._last or length < self._last[repo] or not length:
                self._begun[repo] = (now, length)
            self._last[repo] = length
            began, first = self._begun[repo]
            if now - began >= GROWS_FOR_S and length - first >= GROWS_BY:
                found[repo] = f"its queue grows: {first} messages, {length} after {now - began:.0f} s"
        return found


def repo_of(declared: Ecosystem, name: str) -> Repo | None:
    """Return the declared repository of this name."""
    return next((one for one in declared.repos if one.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    declared: Ecosystem
    seen: Observations
    server: str
    """Id of the Redis server's process."""


class FactSource:
    """Gathers facts. Methods raise redis-py's errors."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        declared: Callable[[], Ecosystem],
        services: Callable[[], Iterable[ServiceReport]],
    ) -> None:
        """`declared` returns the records of the file; `services` returns the services of all hosts that
        should be up.
        """
        self._redis, self._keys = redis, keys
        self._declared, self._services = declared, services
        self._store = HealthStore(redis, keys)
        self._registry = WorkerRegistry(redis, keys)
        self._queues = QueueWatch()

    def gather(self, now: float) -> Gathered:
        declared = self._declared()
        workers = self._registry.workers()
        lengths = self._lengths(declared, sorted({worker.host for worker in workers}))
        seen = Observations(
            now=now,
            workers=workers,
            services={one.name: one for one in self._services()},
            remotes=self._store.remotes(),
            growing=self._queues.growing(lengths, now),
            disconnected=self._redis.hkeys(self._keys.disconnected),
        )
        return Gathered(declared=declared, seen=seen, server=self._redis.info("server")["run_id"])

    def _lengths(self, declared: Ecosystem, hosts: Iterable[str]) -> dict[str, int]:
        queues = [(repo.name, host) for repo in declared.repos for host in (None, *hosts)]
        with self._redis.pipeline(transaction=False) as pipeline:
            for repo, host in queues:
                pipeline.llen(self._keys.queue(repo, host))
            counts = pipeline.execute()
        found: dict[str, int] = {}
        for (repo, _), count in zip(queues, counts, strict=True):
            found[repo] = found.get(repo, 0) + int(count)
        return found
