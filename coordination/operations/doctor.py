"""Problems of an ecosystem's machines, each with a remedy. Pure: checkup.py collects what is known."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from coordination.backend.server_check import Finding, Severity
from coordination.breakers.records import Breaker
from coordination.ecosystem.first_file import LINE_OF_ID, new_id
from coordination.errors import CoordinationError
from coordination.health.facts import ServiceReport
from coordination.health.records import Health, HealthState, Kind
from coordination.operations.machine_check import Machine, machine_findings
from coordination.operations.supervision import Restart
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.records import TodoState
from coordination.runs.views.metrics import Queue
from coordination.runs.views.records import RunView
from coordination.runs.worker_registry import SET_NAMESPACE, Worker
from coordination.text import counted, listed, quoted

UNWELL = ("failed", "degraded", "unreachable", "recovering")
"""States of a service that are problems."""
CLOCK_TOLERANCE = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class File:
    path: str
    problems: tuple[str, ...] = ()
    """Errors that make it unusable; empty for a valid file."""
    repos: tuple[str, ...] = ()
    """Declared repositories."""
    ecosystem_id: str = ""
    """Its `coordination.id`, or ""."""
    shows_password: bool = False
    """The file holds Redis' password and is readable by other users of this machine."""
    too_large: tuple[str, ...] = ()
    """Repositories that cannot be transferred to other hosts: larger than `bundle_limit_bytes`, and without a
    `url`.
    """
    absent: Mapping[str, str] = field(default_factory=dict)
    """Repository → why its folder cannot be used on this machine."""
    asks_for_sandbox: bool = False
    """A todo or a repository demands one."""
    over_http: tuple[str, ...] = ()
    """Repositories whose url is http."""
    broken_checkouts: tuple[tuple[str, str], ...] = ()
    """Settings that keep git from the files of a checkout, each with a remedy."""


@dataclass(frozen=True, kw_only=True)
class Server:
    address: str
    """Address without its password."""
    embedded: bool
    software: str = ""
    used_memory: int = 0
    maxmemory: int = 0
    """0 means no limit."""
    policy: str = ""
    append_only: bool | None = None
    in_plain_text: bool = False
    """The server is on another host, and its connection is not encrypted."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LivingWorker:
    worker: Worker
    ago_s: float
    """Seconds since its last heartbeat."""


@dataclass(frozen=True, kw_only=True)
class Checkup:
    machine: Machine
    file: File | None = None
    trouble: CoordinationError | None = None
    """Reason why Redis could not be queried."""
    server: Server | None = None
    workers: tuple[LivingWorker, ...] = ()
    gone: Mapping[str, float] = field(default_factory=dict)
    """Seconds since the last heartbeat by host, for hosts without a living worker; forgotten
    after a while.
    """
    queues: Mapping[Queue, int] = field(default_factory=dict)
    """Number of messages by queue that no worker has taken."""
    breakers: tuple[Breaker, ...] = ()
    """Circuit breakers that are not closed."""
    health: tuple[Health, ...] = ()
    """Health of repositories, remotes, services and disks, as the monitor has recorded it."""
    services: tuple[ServiceReport, ...] = ()
    """Services that should be up, as the supervisors of their hosts report them."""
    runs: tuple[RunView, ...] = ()
    """Runs that have not ended."""
    half_undone: tuple[RunView, ...] = ()
    """Runs with todos that could not be undone."""
    ecosystem_held: str = ""
    """Id of the ecosystem that owns the namespace."""
    poison: int = 0
    poison_key: str = ""
    damaged: tuple[str, ...] = ()
    """Descriptions of runs whose records cannot be read."""
    apart: tuple[str, ...] | None = ()
    """Keys that were set aside because another program had written to them. None: this login may not list
    keys.
    """
    restarts: tuple[Restart, ...] = ()
    """Restarts of local processes within the last five minutes."""
    state: str = ""
    """Folder with their logs."""

    @property
    def repos(self) -> tuple[str, ...]:
        """Repositories that are declared, served, or needed by runs."""
        declared = self.file.repos if self.file else ()
        served = {repo for living in self.workers for repo in living.worker.repos}
        waiting = {todo.repo for run in self.runs for todo in run.todos} - {MILESTONE_REPO}
        return (*declared, *sorted((served | waiting) - set(declared)))

    @property
    def starts_workers(self) -> bool:
        """Return whether the next sweep will start the workers, because none runs with the
        embedded server.
        """
        return self.server is not None and self.server.embedded and not self.workers

    def hosts_of(self, repo: str) -> tuple[str, ...]:
        """Return the hosts with a living worker that can work on the repository."""
        return tuple(sorted({living.worker.host for living in self.workers if repo in living.worker.fit}))

    def unfit(self, repo: str) -> Mapping[str, str]:
        """Return why a host's worker cannot work on a repository that it serves, by host."""
        return {h.worker.host: h.worker.unfit[repo] for h in self.workers if repo in h.worker.unfit}


def findings(checkup: Checkup) -> tuple[Finding, ...]:
    """Return the findings, problems first."""
    reports = checkup.machine.host in {living.worker.host for living in checkup.workers}
    found = [
        *_file(checkup.file),
        *_redis(checkup),
        *_restarts(checkup),
        *_foreign_data(checkup),
        *_ecosystem_without_id(checkup),
        *_other_ecosystem(checkup),
        *_served(checkup),
        *_absent(checkup),
        *_versions(checkup),
        *_clocks(checkup),
        *_silent_hosts(checkup),
        *_half_undone(checkup),
        *_breakers(checkup),
        *_health(checkup),
        *_services(checkup),
        *_poison(checkup),
        *machine_findings(
            checkup.machine, embedded=checkup.server is not None and checkup.server.embedded, reports=reports
        ),
        *(Finding.warning(what, remedy) for what, remedy in checkup.machine.credentials),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity is not Severity.WRONG))


def _file(file: File | None) -> Iterator[Finding]:
    if file and file.problems:
        yield Finding.wrong(
            f"{file.path} has {counted(len(file.problems), 'problem')}",
            "list them with their lines: coord validate",
        )
    for problem, remedy in file.broken_checkouts if file else ():
        yield Finding.wrong(problem, remedy)
    if file and file.too_large:
        yield Finding.warning(*too_large_words(file.too_large))
    if file and file.shows_password:
        yield Finding.warning(
            f"{file.path} holds Redis' password, and other users of this machine can read it",
            f"set COORD_REDIS_URL instead, or: chmod 600 {quoted(file.path)}",
        )


def too_large_words(repos: Collection[str]) -> tuple[str, str]:
    """Return the consequence of repositories that are too large, and the remedy."""
    many = len(repos) > 1
    return (
        (
            f"{listed(sorted(repos))} {'are' if many else 'is'} larger than bundle_limit_bytes and "
            f"{'have' if many else 'has'} no url: todos on other hosts that need "
            f"{'their' if many else 'its'} files will wait"
        ),
        (
            "set a `url` that workers may push to, raise bundle_limit_bytes, or set needs_paths: "
            "false for such a todo"
        ),
    )


def _redis(checkup: Checkup) -> Iterator[Finding]:
    if checkup.trouble:
        yield Finding.wrong(checkup.trouble.message, checkup.trouble.hint)
    yield from checkup.server.findings if checkup.server else ()
    if checkup.server and checkup.server.in_plain_text:
        yield Finding.warning(
            f"{checkup.server.address} is on another host without encryption: "
            "its password and all commands can be intercepted",
            "enable TLS there and use rediss://",
        )


def _restarts(checkup: Checkup) -> Iterator[Finding]:
    for name in sorted({restart.name for restart in checkup.restarts}):
        ours = [restart for restart in checkup.restarts if restart.name == name]
        log = f"{checkup.state}/{name}.log"
        if any(restart.given_up for restart in ours):
            yield Finding.wrong(
                f"the {name} died too often within five minutes and is not restarted",
                f"fix the error at the end of {log}, then: coord up",
            )
        else:
            times = "once" if len(ours) == 1 else f"{len(ours)} times"
            yield Finding.warning(
                f"the {name} died and was restarted {times} within the last five minutes",
                f"see the lines before each restart in {log}",
            )


def _foreign_data(checkup: Checkup) -> Iterator[Finding]:
    for words in checkup.damaged:
        yield Finding.wrong(
            words,
            "another program writes in this namespace, or Redis lost data: give coord a namespace of its own",
        )
    if checkup.apart is None:
        yield Finding.warning(
            "this login may not list keys, so keys that were set aside are unknown",
            "run coord doctor as a keeper",
        )
    elif checkup.apart:
        yield Finding.warning(
            f"{counted(len(checkup.apart), 'key')} of coord held foreign data and "
            f"{'was' if len(checkup.apart) == 1 else 'were'} set aside: {listed(checkup.apart[:5])}",
            "another program writes in this namespace: give coord one of its own; "
            "these keys expire after a week",
        )


def _ecosystem_without_id(checkup: Checkup) -> Iterator[Finding]:
    if checkup.machine.signatures == "require" and checkup.file and not checkup.file.ecosystem_id:
        yield Finding.warning(
            f"signatures are required, and {checkup.file.path} has no `coordination.id`: an order for "
            "another file without one counts here, too",
            LINE_OF_ID.format(new_id()),
        )


def _other_ecosystem(checkup: Checkup) -> Iterator[Finding]:
    ours, held = checkup.file.ecosystem_id if checkup.file else "", checkup.ecosystem_held
    if not ours or not held or ours == held:
        return
    what = f"this is ecosystem {ours}, but the namespace on this Redis belongs to ecosystem {held}"
    if checkup.workers or checkup.runs:
        yield Finding.wrong(
            what,
            f"give this one a namespace of its own: {SET_NAMESPACE}; "
            "or write the same `coordination.id` into both files",
        )
    else:
        yield Finding.warning(
            f"{what}, which has no workers or runs left",
            f"the next sweep or worker here takes it over; if {held} is used again, this one needs: "
            f"{SET_NAMESPACE}",
        )


def _served(checkup: Checkup) -> Iterator[Finding]:
    if checkup.trouble or checkup.server is None or checkup.starts_workers:
        return
    for repo in checkup.repos:
        for host, why in checkup.unfit(repo).items():
            yield Finding.wrong(
                f"host {host} serves {repo} but cannot work on it: {why}",
                f"fix that on {host}; its worker notices by itself",
            )
    for living in checkup.workers:
        if living.worker.short:
            yield Finding.wrong(
                f"worker {living.worker.id} starts no todos: {living.worker.short}",
                f"free space on {living.worker.host} (coord run clean lists data of runs), or set disk_min",
            )
    unserved = [repo for repo in checkup.repos if not checkup.hosts_of(repo) and not checkup.unfit(repo)]
    if unserved:
        start = (
            "coord up" if checkup.server.embedded else f"on its host: coord worker --repo {unserved[0]}=PATH"
        )
        yield Finding.wrong(f"no worker serves {listed(unserved)}", start)


def _absent(checkup: Checkup) -> Iterator[Finding]:
    """Yield the folders that this machine lacks, where its own worker needs them and has not reported it."""
    if checkup.file is None or (checkup.server is not None and not checkup.server.embedded):
        return
    for repo, why in checkup.file.absent.items():
        if not checkup.unfit(repo):
            yield Finding.wrong(
                f"repository {repo} is not on this machine: {why}",
                f"clone it there, or correct its `path` in {checkup.file.path}",
            )


def _versions(checkup: Checkup) -> Iterator[Finding]:
    ours = checkup.machine.version
    for version in sorted({h.worker.version for h in checkup.workers} - {ours}):
        hosts = sorted({h.worker.host for h in checkup.workers if h.worker.version == version})
        yield Finding.wrong(
            f"the workers on {listed(hosts)} run coord {version}, this is {ours}",
            "install the same version everywhere",
        )


def _clocks(checkup: Checkup) -> Iterator[Finding]:
    offsets = {h.worker.host: h.worker.clock_offset_ms for h in checkup.workers}
    if checkup.machine.clock_offset_ms is not None:
        offsets.setdefault(checkup.machine.host, checkup.machine.clock_offset_ms)
    for host, offset_ms in sorted(offsets.items()):
        if abs(offset_ms) > CLOCK_TOLERANCE / timedelta(milliseconds=1):
            how = f"{abs(offset_ms) / 1000:.0f} s {'ahead of' if offset_ms > 0 else 'behind'} Redis"
            yield Finding.wrong(
                f"the clock of {host} is {how}: times in logs and commits are wrong, "
                "certificates may be refused",
                f"set the clock of {host} by NTP",
            )


def _silent_hosts(checkup: Checkup) -> Iterator[Finding]:
    for host, ago_s in checkup.gone.items():
        waiting = {repo: n for (repo, whose), n in checkup.queues.items() if whose == host and n}
        if waiting:
            yield Finding.wrong(
                f"{counted(sum(waiting.values()), 'message')} for {listed(sorted(waiting))} on host {host}, "
                f"whose workers have been silent for {_duration(ago_s)}",
                "start its worker again; or give up the host: coord cancel RUN, "
                f"then coord retry RUN --without {host}",
            )


def _half_undone(checkup: Checkup) -> Iterator[Finding]:
    for run in checkup.half_undone:
        failed = [todo.id for todo in run.todos if todo.state is TodoState.COMPENSATION_FAILED]
        yield Finding.wrong(
            f"run {run.run_id} of {run.plan_id} is half undone: {listed(failed)} could not be undone",
            f"see why: coord show-run {run.run_id}; try again: coord rollback {run.run_id}; or accept it: "
            f'coord rollback {run.run_id} --accept {failed[0]} --reason "…"',
        )


def _breakers(checkup: Checkup) -> Iterator[Finding]:
    """Yield the breakers that are not closed, without those of recoveries: `_health` names what is down."""
    named = {one.subject.breaker for one in checkup.health if one.is_troubled}
    for breaker in checkup.breakers:
        if breaker.tripped and breaker.name not in named:
            behind = f", and {counted(breaker.behind, 'todo')} behind it" if breaker.behind else ""
            yield Finding.warning(
                f"the circuit breaker of {breaker.name} is {breaker.state} after {breaker.reason}; "
                f"{breaker.outlook}{behind}",
                "fix the cause, and it closes by itself; or close it now: "
                f"coord breaker reset {breaker.name}",
            )


def _health(checkup: Checkup) -> Iterator[Finding]:
    """Yield what is down, unless another finding (workers, folders, disks) names it."""
    for one in checkup.health:
        kind, name = one.subject.kind, one.subject.name
        if one.state is HealthState.DISCONNECTED and kind is Kind.REPO:
            yield Finding.warning(f"repository {name} is disconnected", f"coord repo connect {name}")
        elif one.is_troubled and (kind in (Kind.SERVICE, Kind.REMOTE) or checkup.hosts_of(name)):
            tell = Finding.wrong if one.subject.required and one.is_down else Finding.warning
            again = "it is not recovered any more" if one.given_up else "see it with its recoveries"
            yield tell(f"{kind} {name} is {one.state}: {one.reason}", f"{again}: coord repo health {name}")


def _services(checkup: Checkup) -> Iterator[Finding]:
    """Yield the services that are not well by the last report, unless `_health` names them: the monitor looks
    at them later.
    """
    named = {
        one.subject.name for one in checkup.health if one.is_troubled and one.subject.kind is Kind.SERVICE
    }
    for one in checkup.services:
        if one.state in UNWELL and one.name not in named:
            yield Finding.warning(
                f"service {one.name} of {one.repo} is {one.state}{f': {one.why}' if one.why else ''}",
                f"see its log: coord service logs {one.name}",
            )


def _poison(checkup: Checkup) -> Iterator[Finding]:
    if checkup.poison:
        yield Finding.warning(
            f"{counted(checkup.poison, 'queue entry')} could not be read and set aside: "
            "another program writes into coord's queues",
            f"inspect: redis-cli LRANGE {checkup.poison_key} 0 -1; then delete: "
            f"redis-cli DEL {checkup.poison_key}",
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
