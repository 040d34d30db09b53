"""What is wrong with an ecosystem's machines, and what to do about each. Pure: `checkup.py` collects the facts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from coordination.backend.server_check import Finding, Severity
from coordination.breakers.records import Breaker
from coordination.errors import CoordinationError
from coordination.operations.supervision import Restart
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.presence import SET_NAMESPACE, Worker
from coordination.runs.records import RunView, TodoState
from coordination.runs.views.metrics import Queue
from coordination.text import counted, listed

CLOCK_TOLERANCE = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class File:
    path: str
    problems: tuple[str, ...] = ()
    """Why it cannot be used; empty for a valid one."""
    repos: tuple[str, ...] = ()
    """Those that it declares."""
    ecosystem_id: str = ""
    """Its `coordination.id`, where it has one."""
    shows_password: bool = False
    """It holds Redis' password, and others on this machine may read it."""
    too_large: tuple[str, ...] = ()
    """Repositories that reach no other host: larger than `bundle_limit_bytes`, and without a `url`."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The one that asks."""

    host: str
    version: str
    """Of coord."""
    git: str | None
    """Its version; None where there is none."""
    agent: str | None = None
    """The program of `agent_command`."""
    agent_found: bool = True
    clock_offset_ms: int | None = None
    """How far it is ahead of Redis."""
    short: str = ""
    """What the disk of the state folder has too little of."""
    loose: tuple[str, ...] = ()
    """What is in the state folder here, and other users may read."""


@dataclass(frozen=True, kw_only=True)
class Server:
    address: str
    """Without its password."""
    embedded: bool
    software: str = ""
    used_memory: int = 0
    maxmemory: int = 0
    """0 means no limit."""
    policy: str = ""
    append_only: bool | None = None
    in_plain_text: bool = False
    """It is on another host, and what is said to it can be read on the way."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Heard:
    worker: Worker
    ago_s: float
    """How long since it was heard of."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    machine: Machine
    file: File | None = None
    trouble: CoordinationError | None = None
    """Why Redis could not be asked."""
    server: Server | None = None
    workers: tuple[Heard, ...] = ()
    gone: Mapping[str, float] = field(default_factory=dict)
    """Host of which no worker is left → seconds since one was heard of; not for ever."""
    queues: Mapping[Queue, int] = field(default_factory=dict)
    """Messages that no worker has taken yet."""
    breakers: tuple[Breaker, ...] = ()
    """Circuit breakers that are not at rest."""
    runs: tuple[RunView, ...] = ()
    """Those that have not ended."""
    half_undone: tuple[RunView, ...] = ()
    """Those of which something could not be undone."""
    ecosystem_held: str = ""
    """The id of the ecosystem whose the namespace is."""
    poison: int = 0
    poison_key: str = ""
    damaged: tuple[str, ...] = ()
    """Runs whose records cannot be read, in words."""
    apart: tuple[str, ...] | None = ()
    """Keys under which somebody else had written. None: this login may not look for them."""
    restarts: tuple[Restart, ...] = ()
    """Of the processes that were started here, within the last five minutes."""
    state: str = ""
    """The folder with their logs."""

    @property
    def repos(self) -> tuple[str, ...]:
        """Declared, served, or waited for."""
        declared = self.file.repos if self.file else ()
        served = {repo for heard in self.workers for repo in heard.worker.repos}
        waiting = {todo.repo for run in self.runs for todo in run.todos} - {MILESTONE_REPO}
        return (*declared, *sorted((served | waiting) - set(declared)))

    @property
    def starts_workers(self) -> bool:
        """Nothing runs, and the next sweep starts what it needs."""
        return self.server is not None and self.server.embedded and not self.workers

    def hosts_of(self, repo: str) -> tuple[str, ...]:
        """Those with a living worker that can work on it."""
        return tuple(sorted({heard.worker.host for heard in self.workers if repo in heard.worker.fit}))

    def unfit(self, repo: str) -> Mapping[str, str]:
        """Host → why its worker cannot work on the repository, though it serves it."""
        return {h.worker.host: h.worker.unfit[repo] for h in self.workers if repo in h.worker.unfit}


def findings(facts: Facts) -> tuple[Finding, ...]:
    """What is wrong first, then what is only worth knowing."""
    found = [
        *_file(facts.file),
        *_redis(facts),
        *_restarts(facts),
        *_foreign(facts),
        *_other_ecosystem(facts),
        *_served(facts),
        *_versions(facts),
        *_clocks(facts),
        *_gone(facts),
        *_half_undone(facts),
        *_breakers(facts),
        *_poison(facts),
        *_machine(facts),
        *_loose(facts.machine),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity is not Severity.WRONG))


def _file(file: File | None) -> Iterator[Finding]:
    if file and file.problems:
        yield Finding.wrong(
            f"{file.path} has {counted(len(file.problems), 'problem')}", "coord validate shows each with its line"
        )
    if file and file.too_large:
        yield Finding.warning(*too_large_words(file.too_large))
    if file and file.shows_password:
        yield Finding.warning(
            f"{file.path} holds Redis' password, and everybody on this machine may read it",
            f"set COORD_REDIS_URL instead, or: chmod 600 {file.path}",
        )


def too_large_words(repos: Collection[str]) -> tuple[str, str]:
    """What follows for them, and what to do."""
    many = len(repos) > 1
    return (
        f"{listed(sorted(repos))} {'are' if many else 'is'} larger than bundle_limit_bytes and "
        f"{'have' if many else 'has'} no url: todos on other hosts that need {'their' if many else 'its'} files wait for them",
        "give it a `url` that workers may push to, raise bundle_limit_bytes, or say needs_paths: false of such a todo",
    )


def _redis(facts: Facts) -> Iterator[Finding]:
    if facts.trouble:
        yield Finding.wrong(facts.trouble.message, facts.trouble.hint)
    yield from facts.server.findings if facts.server else ()
    if facts.server and facts.server.in_plain_text:
        yield Finding.warning(
            f"{facts.server.address} is on another host, and its password and all commands can be read on the way",
            "let it speak TLS and use rediss://",
        )


def _restarts(facts: Facts) -> Iterator[Finding]:
    for name in sorted({restart.name for restart in facts.restarts}):
        ours = [restart for restart in facts.restarts if restart.name == name]
        log = f"{facts.state}/{name}.log"
        if any(restart.given_up for restart in ours):
            yield Finding.wrong(
                f"the {name} died too often within five minutes and is not started again",
                f"correct what the end of {log} says, then: coord up",
            )
        else:
            times = "once" if len(ours) == 1 else f"{len(ours)} times"
            yield Finding.warning(
                f"the {name} died and was started again {times} within the last five minutes",
                f"see why: the lines before each restart in {log}",
            )


def _foreign(facts: Facts) -> Iterator[Finding]:
    for words in facts.damaged:
        yield Finding.wrong(
            words, "somebody else writes in this namespace, or Redis lost data: give coord one of its own"
        )
    if facts.apart is None:
        yield Finding.warning(
            "this login may not list keys: whether some were set apart is not known", "coord doctor as a keeper tells"
        )
    elif facts.apart:
        yield Finding.warning(
            f"{counted(len(facts.apart), 'key')} of coord held something else, and is set apart: {listed(facts.apart[:5])}",
            "somebody else writes in this namespace: give coord one of its own; they are forgotten after a week",
        )


def _other_ecosystem(facts: Facts) -> Iterator[Finding]:
    ours, held = facts.file.ecosystem_id if facts.file else "", facts.ecosystem_held
    if not ours or not held or ours == held:
        return
    what = f"this is ecosystem {ours}, and the namespace on this Redis is of ecosystem {held}"
    if facts.workers or facts.runs:
        yield Finding.wrong(
            what,
            f"give this one a namespace of its own: {SET_NAMESPACE}; or write the same `coordination.id` into both files",
        )
    else:
        yield Finding.warning(
            f"{what}, of which nothing is left",
            f"the next sweep or worker here takes it over; if {held} comes back, this one needs: {SET_NAMESPACE}",
        )


def _served(facts: Facts) -> Iterator[Finding]:
    if facts.trouble or facts.server is None or facts.starts_workers:
        return
    for repo in facts.repos:
        for host, why in facts.unfit(repo).items():
            yield Finding.wrong(
                f"host {host} serves {repo}, and cannot work on it: {why}",
                f"mend that on {host}; its worker sees it by itself",
            )
    for heard in facts.workers:
        if heard.worker.short:
            yield Finding.wrong(
                f"worker {heard.worker.id} begins no todo: {heard.worker.short}",
                f"make room on {heard.worker.host} (coord clean shows what runs have left), or set disk_min",
            )
    nobody = [repo for repo in facts.repos if not facts.hosts_of(repo) and not facts.unfit(repo)]
    if nobody:
        start = "coord up" if facts.server.embedded else f"where it lies: coord worker --repo {nobody[0]}=PATH"
        yield Finding.wrong(f"no worker serves {listed(nobody)}", start)


def _versions(facts: Facts) -> Iterator[Finding]:
    ours = facts.machine.version
    for version in sorted({h.worker.version for h in facts.workers} - {ours}):
        hosts = sorted({h.worker.host for h in facts.workers if h.worker.version == version})
        yield Finding.wrong(
            f"the workers of {listed(hosts)} are of coord {version}, this is {ours}", "install one version everywhere"
        )


def _clocks(facts: Facts) -> Iterator[Finding]:
    offsets = {h.worker.host: h.worker.clock_offset_ms for h in facts.workers}
    if facts.machine.clock_offset_ms is not None:
        offsets.setdefault(facts.machine.host, facts.machine.clock_offset_ms)
    for host, offset_ms in sorted(offsets.items()):
        if abs(offset_ms) > CLOCK_TOLERANCE / timedelta(milliseconds=1):
            how = f"{abs(offset_ms) / 1000:.0f} s {'ahead of' if offset_ms > 0 else 'behind'} Redis"
            yield Finding.wrong(
                f"the clock of {host} is {how}: times in logs and commits mislead, certificates may be refused",
                f"set the clock of {host} by NTP",
            )


def _gone(facts: Facts) -> Iterator[Finding]:
    for host, ago_s in facts.gone.items():
        waiting = {repo: n for (repo, whose), n in facts.queues.items() if whose == host and n}
        if waiting:
            yield Finding.wrong(
                f"{counted(sum(waiting.values()), 'message')} for {listed(sorted(waiting))} on host {host}, "
                f"of which nothing was heard for {_duration(ago_s)}",
                f"start its worker again; or give the host up: coord cancel RUN, then coord retry RUN --without {host}",
            )


def _half_undone(facts: Facts) -> Iterator[Finding]:
    for run in facts.half_undone:
        failed = [todo.id for todo in run.todos if todo.state is TodoState.COMPENSATION_FAILED]
        yield Finding.wrong(
            f"run {run.run_id} of {run.plan_id} is half undone: {listed(failed)} could not be undone",
            f"see why: coord show-run {run.run_id}; try again: coord rollback {run.run_id}; or answer for it: "
            f'coord rollback {run.run_id} --accept TODO --reason "…"',
        )


def _breakers(facts: Facts) -> Iterator[Finding]:
    for breaker in facts.breakers:
        if breaker.tripped:
            behind = f", and {counted(breaker.behind, 'todo')} behind it" if breaker.behind else ""
            yield Finding.warning(
                f"the circuit breaker of {breaker.name} is {breaker.state} after {breaker.reason}; {breaker.outlook}{behind}",
                f"mend what fails there; then it closes by itself, or at once: coord reset-breaker {breaker.name}",
            )


def _poison(facts: Facts) -> Iterator[Finding]:
    if facts.poison:
        yield Finding.warning(
            f"{counted(facts.poison, 'queue entry')} could not be read and set aside: another program writes into "
            "coord's queues",
            f"look: redis-cli LRANGE {facts.poison_key} 0 -1; and when it is understood: redis-cli DEL {facts.poison_key}",
        )


def _machine(facts: Facts) -> Iterator[Finding]:
    """Work happens here with the embedded server; elsewhere the workers' machines are what counts."""
    here = facts.server is not None and facts.server.embedded
    say = Finding.wrong if here else Finding.warning
    if facts.machine.short and facts.machine.host not in {heard.worker.host for heard in facts.workers}:
        yield say(facts.machine.short, "make room (coord clean shows what runs have left), or set disk_min")
    if facts.machine.git is None:
        yield say("there is no git on this machine", "install git")
    if not facts.machine.agent_found:
        what = f"agent_command's program {facts.machine.agent!r} is not in PATH on this machine"
        yield say(
            what, "install it, or correct agent_command" + ("" if here else " (what counts is the workers' machines)")
        )


def _loose(machine: Machine) -> Iterator[Finding]:
    if machine.loose:
        yield Finding.warning(
            f"other users of this machine may read {counted(len(machine.loose), 'file')} of the state folder, as {machine.loose[0]}",
            "the next worker that starts here closes them; or do it now: chmod -R go= .coord",
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
