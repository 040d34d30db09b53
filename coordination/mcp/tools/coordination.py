"""Tools on locks, messages, events, shared values, health, services and the history of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue
from pydantic_core import to_jsonable_python

from coordination.api import (
    HistoryEvent,
    HistoryFilters,
    Phase,
    ServicesOutcome,
    ServiceView,
    texts,
)
from coordination.api.health import HealthReport
from coordination.api.messages import Event, Gap
from coordination.frozen import FrozenModel
from coordination.mcp.answers import Page, duration, page
from coordination.mcp.declaration import (
    Items,
    Limit,
    Offset,
    Time,
    Wait,
    changes,
    executes,
    reads,
    several,
)
from coordination.mcp.session import Session
from coordination.models import ServiceStep

LINES = 100

Some = Annotated[Items, Field(description="Names of services (default: all).")]


class ChangedServices(FrozenModel):
    """The run that changes services."""

    run: str
    outcome: ServicesOutcome | None
    """null until the run has ended."""


class ServiceLog(FrozenModel):
    """The end of the log of a service."""

    lines: tuple[str, ...]


class Forgotten(FrozenModel):
    """The services that were forgotten."""

    services: tuple[str, ...]


@reads("List services", "services.list")
def coord_list_services(
    session: Session, services: Some = None, limit: Limit = 100, offset: Offset = 0
) -> Page[ServiceView]:
    return page(session.coord.services.list(services or ()), limit, offset)


@executes("Start, stop or restart services", needs="service")
def coord_change_services(
    session: Session,
    step: Annotated[Literal["start", "stop", "restart"], Field(description="The change.")],
    services: Some = None,
    phase: Annotated[Phase | None, Field(description=texts.PHASE)] = None,
    wait_s: Wait = 0,
) -> ChangedServices:
    """Start services with what they depend on, stop them after what depends on them, or restart them, by a
    run. A start is done when the probes pass; follow it with coord_run_show(run=…, wait_s=60).

    With `wait_s`, `outcome` is `success`, or `degraded` if only optional services or checks
    are not.
    """
    operations = session.coord.services
    prepared = operations.prepare(ServiceStep(step), services or (), phase)
    run = operations.begin(prepared)
    view = session.detached(run, wait_s)
    ended = operations.outcome(prepared, view) if view.status.ended else None
    return ChangedServices(run=run.id, outcome=ended)


@changes("Forget services of a host that is gone", "services.forget")
def coord_forget_services(
    session: Session,
    host: Annotated[str, Field(description=texts.HOST_GONE)],
    services: Some = None,
) -> Forgotten:
    return Forgotten(services=session.coord.services.forget(host, services or ()))


@reads("Read the log of a service", "services.log")
def coord_get_service_log(
    session: Session,
    service: Annotated[str, Field(description="The name of a service.")],
    lines: Annotated[int, Field(ge=1, le=2000, description=texts.LINES)] = LINES,
) -> ServiceLog:
    return ServiceLog(lines=session.coord.services.log(service, lines))


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


@reads("Show the health", "health.__call__")
def coord_get_health(
    session: Session,
    name: Annotated[
        str | None, Field(description="A repository or service, or KIND:NAME (default: all).")
    ] = None,
) -> HealthReport:
    """`state` of all is healthy, degraded (something optional is down) or critical (something required is
    down, or no worker looks).
    """
    return session.coord.health(name)


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


Key = Annotated[str, Field(description="The name of the value.")]
Run = Annotated[
    str,
    Field(description=f"{texts.CONTEXT_RUN} Without run and plan: the global context."),
]
Plan = Annotated[str, Field(description=texts.CONTEXT_PLAN)]
Ttl = Annotated[
    float | None,
    Field(gt=0, le=31_536_000, description="Lifetime of the value in seconds (default: an hour)."),
]


class Shared(FrozenModel):
    key: str
    found: bool
    value: Any = None


@reads("Read a shared value", "context.get")
def coord_context_get(session: Session, key: Key, run: Run = "", plan: Plan = "") -> Shared:
    """A run sees the values of its plan, too, and both see global ones. A missing value may have expired."""
    absent = object()
    value = session.coord.context(plan=plan, run=run).get(key, absent)
    return Shared(key=key, found=False) if value is absent else Shared(key=key, found=True, value=value)


@changes("Share a value", "context.set")
def coord_context_set(
    session: Session,
    key: Key,
    value: Annotated[JsonValue, Field(description="Any JSON.")],
    run: Run = "",
    plan: Plan = "",
    ttl_s: Ttl = None,
) -> Shared:
    session.coord.context(plan=plan, run=run).set(key, value, duration(ttl_s))
    return Shared(key=key, found=True, value=value)


@reads("Search the history", "memory.search")
def coord_search_history(
    session: Session,
    query: str = "",
    id: Annotated[str | None, Field(description="A record's id; a milestone is PLAN/M1.")] = None,
    type: Annotated[str | None, Field(description=texts.RECORD_TYPE)] = None,
    repo: str | None = None,
    kind: Annotated[str | None, Field(description=texts.RECORD_EVENT)] = None,
    actor: str | None = None,
    since: Time = None,
    until: Time = None,
    limit: Annotated[int, Field(ge=1, le=1000)] = 20,
) -> Sequence[HistoryEvent]:
    """`changes` is {field: [before, after]}."""
    filters = HistoryFilters(
        subject=id, entity=type, repo=repo, kind=kind, actor=actor, since=since, until=until
    )
    return session.coord.memory.search(query, filters, limit=limit)


@reads("Show trends", "memory.trends")
def coord_get_trends(
    session: Session, repo: str | None = None, days: Annotated[int, Field(ge=1, le=365)] = 30
) -> dict[str, Any]:
    """Runs: failure rate, retries, reuse, hours waited by cause."""
    return {trend.entity: to_jsonable_python(trend) for trend in session.coord.memory.trends(repo, days)}
