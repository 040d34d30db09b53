"""A declared service with its state, for people and programs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from coordination.models import Service
from coordination.services.graph import Phase, phase_of
from coordination.services.host import ServiceState, ServiceStatus

NOT_STARTED = "not_started"


class ServiceView(BaseModel):
    """A service of the file."""

    model_config = ConfigDict(frozen=True)

    name: str
    repo: str
    phase: Phase
    required: bool
    depends_on: tuple[str, ...]
    state: str
    """A state of `ServiceState`, or `not_started`."""
    why: str = ""
    since: str | None = None
    """UTC."""
    pid: int | None = None
    exit_code: int | None = None
    restarts: int = 0
    looked_at: str | None = None
    latency_s: float | None = None
    failures: int = 0
    """Failed looks in a row."""


def view_of(service: Service, every: Collection[Service], status: ServiceStatus | None) -> ServiceView:
    """Return the view of a service. `every`: all of the file, which decide its phase."""
    told = status or ServiceStatus(
        name=service.name, repo=service.repo, order="", state=ServiceState.STOPPED, since=0.0
    )
    return ServiceView(
        name=service.name,
        repo=service.repo,
        phase=phase_of(every)[service.name],
        required=service.required,
        depends_on=service.depends_on,
        state=told.state if status else NOT_STARTED,
        why=told.why.partition("\n")[0],
        since=_iso(told.since) if status else None,
        pid=told.pid,
        exit_code=told.exit_code,
        restarts=told.restarts,
        looked_at=_iso(told.looked_at) if told.looked_at else None,
        latency_s=told.latency_s,
        failures=told.failures,
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
