"""A declared service with its state, for people and programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from coordination.models import Service
from coordination.services.graph import Phase, phase_of
from coordination.services.host import ServiceState
from coordination.services.published import PublishedService

NOT_STARTED = "not_started"


class ServiceView(BaseModel):
    """A service on a host."""

    model_config = ConfigDict(frozen=True)

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
    """Return the views of these services, one for each host on which a service is up. `every`: all of the
    file, which decide the phases.
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
    """Return the views of the services that are up and that the file does not declare."""
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
        why = f"no worker of {known.host} tells its state; it was {state} {known.age_s:.0f} s ago"
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
