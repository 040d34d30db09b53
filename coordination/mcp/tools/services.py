"""Tools on services of repositories."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from coordination.api import Phase, ServicesOutcome, ServiceView
from coordination.mcp.answers import Page, page
from coordination.mcp.declaration import Items, Limit, Offset, Wait, changes, executes, reads
from coordination.mcp.session import Session
from coordination.models import ServiceStep

LINES = 100

Some = Annotated[Items, Field(description="Names of services (default: all).")]


class ChangedServices(BaseModel):
    """The run that changes services."""

    model_config = ConfigDict(frozen=True)

    run: str
    outcome: ServicesOutcome | None
    """null while the run goes on."""


class ServiceLog(BaseModel):
    """The end of the log of a service."""

    model_config = ConfigDict(frozen=True)

    lines: tuple[str, ...]


class Forgotten(BaseModel):
    """The services that were forgotten."""

    model_config = ConfigDict(frozen=True)

    services: tuple[str, ...]


@reads("List services")
def coord_list_services(
    session: Session, services: Some = None, limit: Limit = 100, offset: Offset = 0
) -> Page[ServiceView]:
    """Return the services of repositories with their states on all hosts, in the order of a start."""
    return page(session.coord.services.list(services or ()), limit, offset)


@executes("Start, stop or restart services")
def coord_change_services(
    session: Session,
    step: Annotated[Literal["start", "stop", "restart"], Field(description="The change.")],
    services: Some = None,
    phase: Annotated[
        Phase | None, Field(description="Start or restart only services of this phase (default: all).")
    ] = None,
    wait_s: Wait = 0,
) -> ChangedServices:
    """Start services with what they depend on, stop them after what depends on them, or restart them, by a
    run. A start is done when the probes pass; follow it with coord_get_run(run=…, wait_s=60).

    With `wait_s`, `outcome` tells what is up: `success`, or `degraded` if only optional services or checks
    are not.
    """
    operations = session.coord.services
    prepared = operations.prepare(ServiceStep(step), services or (), phase)
    run = operations.begin(prepared)
    view = session.detached(run, wait_s)
    ended = operations.outcome(prepared, view) if view.status.ended else None
    return ChangedServices(run=run.id, outcome=ended)


@changes("Forget services of a host that is gone")
def coord_forget_services(
    session: Session,
    host: Annotated[str, Field(description="The host that is gone.")],
    services: Some = None,
) -> Forgotten:
    """Delete the published states of services of a host that is gone: they can then start on another one. It
    is refused while a worker of the host lives.
    """
    return Forgotten(services=session.coord.services.forget(host, services or ()))


@reads("Read the log of a service")
def coord_get_service_log(
    session: Session,
    service: Annotated[str, Field(description="The name of a service.")],
    lines: Annotated[int, Field(ge=1, le=2000, description="Number of last lines.")] = LINES,
) -> ServiceLog:
    """Return the last lines that a service wrote. From another host, a run of one todo brings them: at most
    32 KB.
    """
    return ServiceLog(lines=session.coord.services.log(service, lines))
