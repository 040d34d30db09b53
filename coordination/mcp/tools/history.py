"""Tools on the history of the file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import to_jsonable_python

from coordination.api import HistoryEvent, HistoryFilters
from coordination.mcp.declaration import reads
from coordination.mcp.session import Session

Time = Annotated[datetime | None, Field(description="A date or time such as 2026-01-31T12:00:00Z.")]


@reads("Search the history")
def coord_search_history(
    session: Session,
    query: str = "",
    id: Annotated[str | None, Field(description="A record's id; a milestone is PLAN/M1.")] = None,
    type: Annotated[
        str | None, Field(description="issue, todo, plan, milestone, dependency, repo or file.")
    ] = None,
    repo: str | None = None,
    kind: Annotated[
        str | None, Field(description="A kind such as todo.completed, or a pattern such as issue.*.")
    ] = None,
    actor: str | None = None,
    since: Time = None,
    until: Time = None,
    limit: Annotated[int, Field(ge=1, le=1000)] = 20,
) -> Sequence[HistoryEvent]:
    """Find what happened to issues, todos, plans, milestones, dependencies and repositories: by words, best
    match first, or without `query` the latest events. Each has `changes` as {field: [before, after]}.
    """
    filters = HistoryFilters(
        subject=id, entity=type, repo=repo, kind=kind, actor=actor, since=since, until=until
    )
    return session.coord.memory.search(query, filters, limit=limit)


@reads("Show trends")
def coord_get_trends(
    session: Session, repo: str | None = None, days: Annotated[int, Field(ge=1, le=365)] = 30
) -> dict[str, Any]:
    """Count what was created and done per day, with lead and working times, and compare with the days before."""
    return {trend.entity: to_jsonable_python(trend) for trend in session.coord.memory.trends(repo, days)}
