"""Tools on services, and the wait for events of topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from coordination.api import (
    Phase,
    ServicesOutcome,
    texts,
)
from coordination.api.messages import Event, Gap
from coordination.frozen import FrozenModel
from coordination.mcp.declaration import (
    Items,
    Wait,
    executes,
    reads,
    several,
)
from coordination.mcp.session import Session
from coordination.models import ServiceStep

Services = Annotated[Items, Field(description=texts.SERVICES)]
OfPhase = Annotated[Phase | None, Field(description=texts.PHASE)]


class ChangedServices(FrozenModel):
    """The run that changes services."""

    run: str
    outcome: ServicesOutcome | None
    """null until the run has ended."""


@executes("Start services", "service.start")
def coord_service_start(
    session: Session, names: Services = None, phase: OfPhase = None, wait_s: Wait = 0
) -> ChangedServices:
    """A run does it; follow it with coord_run_show(run=…, wait_s=60). With `wait_s`, `outcome` is `success`,
    or `degraded` if only optional services or checks are not.
    """
    return _change(session, ServiceStep.START, names, phase, wait_s)


@executes("Stop services", "service.stop")
def coord_service_stop(session: Session, names: Services = None, wait_s: Wait = 0) -> ChangedServices:
    return _change(session, ServiceStep.STOP, names, None, wait_s)


@executes("Restart services", "service.restart")
def coord_service_restart(
    session: Session, names: Services = None, phase: OfPhase = None, wait_s: Wait = 0
) -> ChangedServices:
    return _change(session, ServiceStep.RESTART, names, phase, wait_s)


def _change(
    session: Session, step: ServiceStep, names: Sequence[str] | None, phase: Phase | None, wait_s: float
) -> ChangedServices:
    services = session.coord.services
    prepared = services.prepare(step, names or (), phase)
    run = services.begin(prepared)
    view = session.detached(run, wait_s)
    ended = services.outcome(prepared, view) if view.status.ended else None
    return ChangedServices(run=run.id, outcome=ended)


class EventView(FrozenModel):
    id: str
    topic: str
    type: str
    payload: Any
    sender: str
    at: str


class Heard(FrozenModel):
    events: tuple[EventView, ...]
    gap: bool
    """True if the connection to Redis was lost meanwhile, so that events may be missing."""


@reads("Wait for events", "topic.subscribe")
def coord_topic_subscribe(
    session: Session,
    topics: Annotated[
        Sequence[str],
        BeforeValidator(several),
        Field(description="Names or patterns: a.* matches one more word, a.** any number."),
    ],
    wait_s: Annotated[
        float, Field(gt=0, le=60, description="Return after this many seconds at the latest.")
    ] = 30,
    most: Annotated[int, Field(ge=1, le=100, description="Return when this many events were received.")] = 1,
) -> Heard:
    """Events between two calls are missed, too."""
    found: list[EventView] = []
    gap = False
    with session.coord.topic.subscribe(*topics) as listening:
        for event in listening.events(wait_s):
            gap |= isinstance(event, Gap)
            if isinstance(event, Event):
                found.append(EventView(**{**vars(event), "at": event.at.isoformat()}))
            if len(found) == most:
                break
    return Heard(events=tuple(found), gap=gap)
