"""Services with their states on all hosts, as workers publish them with each heartbeat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from pydantic import ValidationError

from coordination.declared import Column, Table
from coordination.errors import Conflict, NotFound
from coordination.frozen import FrozenModel
from coordination.health.facts import WORKS, ServiceReport
from coordination.models import Service
from coordination.runs.worker_registry import WorkerRegistry
from coordination.services.graph import Phase, phase_of
from coordination.services.host import PUBLISHED, ServiceHost, ServiceState, ServiceStatus

DOWN = (ServiceState.STOPPED, ServiceState.FAILED)
"""States in which a service can start on another host."""
DOWN_ON_PURPOSE = (ServiceState.STOPPED, ServiceState.SHUTTING_DOWN)


class PublishedService(FrozenModel):
    """The state of a service on a host."""

    host: str
    status: ServiceStatus
    age_s: float = 0.0
    """Time since its worker published it; 0 for this machine."""
    away: bool = False
    """No worker of the host serves its repository now."""

    @property
    def is_up(self) -> bool:
        return self.status.state not in DOWN


def published(registry: WorkerRegistry) -> Iterator[PublishedService]:
    """Yield the states of all hosts. An unreadable state is skipped: its worker writes it again."""
    served = {(worker.host, repo) for worker in registry.workers() for repo in worker.repos}
    for host, repo, age_s, text in registry.services():
        try:
            states = PUBLISHED.validate_json(text)
        except ValidationError:
            continue
        for one in states:
            if one.repo == repo:
                yield PublishedService(host=host, status=one, age_s=age_s, away=(host, repo) not in served)


def forget(registry: WorkerRegistry, host: str, names: Collection[str] = ()) -> tuple[PublishedService, ...]:
    """Delete the published states of these services on a host that no longer exists, without names of all its
    services; return them. Raises NotFound; Conflict while a worker of the host lives, which would publish
    them again.
    """
    if there := next((worker for worker in registry.workers() if worker.host == host), None):
        raise Conflict(
            f"host {host} is not gone: its worker {there.id} lives",
            "stop the services instead: coord service stop",
        )
    known = [one for one in published(registry) if one.host == host]
    gone = tuple(one for one in known if not names or one.status.name in names)
    missing = sorted(set(names) - {one.status.name for one in gone})
    if missing or not gone:
        what = f"service {', '.join(missing)}" if missing else "a service"
        raise NotFound(f"no state of {what} on host {host!r} is published", "list them: coord service list")
    for repo in {one.status.repo for one in gone}:
        left = tuple(one.status for one in known if one.status.repo == repo and one not in gone)
        registry.replace_services(host, repo, PUBLISHED.dump_json(left).decode() if left else "")
    return gone


def on_all_hosts(
    here: str, local: Mapping[str, ServiceStatus], others: Iterable[PublishedService]
) -> Mapping[str, tuple[PublishedService, ...]]:
    """Return service → its states: one for each host on which it is up, else only the latest.

    `local`: the states on the host `here`, which are newer than the published ones.
    """
    found: defaultdict[str, list[PublishedService]] = defaultdict(list)
    for name, status in local.items():
        found[name].append(PublishedService(host=here, status=status))
    for one in others:
        if one.host != here or one.status.name not in local:
            found[one.status.name].append(one)
    return {name: tuple(_relevant(states)) for name, states in sorted(found.items())}


def _relevant(states: list[PublishedService]) -> list[PublishedService]:
    return [one for one in states if one.is_up] or [max(states, key=lambda one: one.status.since)]


NOT_STARTED = "not_started"


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


class ServiceView(FrozenModel):
    """A service on a host."""

    shown: ClassVar = Table(
        columns=(
            Column("SERVICE", of="name"),
            Column("REPO"),
            Column("PHASE", of=lambda one: one.phase or "undeclared", wide=True),
            Column("HOST"),
            Column("STATE"),
            Column("PID", wide=True),
            Column("SINCE", of=lambda one: one.since and datetime.fromisoformat(one.since), wide=True),
            Column("RESTARTS"),
            Column("LAST LOOK", of="why", flexible=True, folds=True),
        ),
        none="no service is declared",
        next_step="declare some in the file: coordination.services",
    )
    name: str
    repo: str
    phase: Phase | None
    """None for a service that the file does not declare."""
    required: bool
    depends_on: tuple[str, ...]
    state: str
    """A state of `ServiceState`, or `not_started`."""
    why: str = ""
    host: str = ""
    age_s: float = 0.0
    """Age of the state; 0 on this machine."""
    since: str | None = None
    """UTC."""
    unit: str = ""
    """Its systemd unit; empty for a command."""
    pid: int | None = None
    exit_code: int | None = None
    restarts: int = 0
    looked_at: str | None = None
    latency_s: float | None = None
    failures: int = 0
    """Failed looks in a row."""


def views_of(
    services: Collection[Service],
    every: Collection[Service],
    states: Mapping[str, Collection[PublishedService]],
) -> tuple[ServiceView, ...]:
    """Return the views of these services, one for each host on which a service is up. `every`: all services
    of the file, which decide the phases.
    """
    phases = phase_of(every)
    found = []
    for one in services:
        declared = ServiceView(
            name=one.name,
            repo=one.repo,
            phase=phases[one.name],
            required=one.required,
            depends_on=one.depends_on,
            state=NOT_STARTED,
        )
        found += [_with_state(declared, known) for known in states.get(one.name, ())] or [declared]
    return tuple(found)


def undeclared_views(
    every: Collection[Service], states: Mapping[str, Collection[PublishedService]]
) -> tuple[ServiceView, ...]:
    """Return the views of services that are up but not declared in the file."""
    names = {one.name for one in every}
    return tuple(
        _with_state(
            ServiceView(
                name=name, repo=one.status.repo, phase=None, required=False, depends_on=(), state=NOT_STARTED
            ),
            one,
        )
        for name, known in states.items()
        for one in known
        if name not in names and one.is_up
    )


def _with_state(declared: ServiceView, known: PublishedService) -> ServiceView:
    status, state, why = known.status, known.status.state, known.status.why.partition("\n")[0]
    if known.away and known.is_up:
        why = f"no worker of {known.host} reports its state; it was {state} {known.age_s:.0f} s ago"
        state = ServiceState.UNREACHABLE
    return declared.model_copy(
        update={
            "state": state.value,
            "why": why,
            "host": known.host,
            "age_s": round(known.age_s, 1),
            "since": _iso(status.since),
            "unit": status.unit,
            "pid": status.pid,
            "exit_code": status.exit_code,
            "restarts": status.restarts,
            "looked_at": _iso(status.looked_at) if status.looked_at else None,
            "latency_s": status.latency_s,
            "failures": status.failures,
        }
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
