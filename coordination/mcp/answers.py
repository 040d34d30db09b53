"""Results of tools beyond the records themselves. Fields of a record are everywhere those of `models.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from coordination.api import (
    Breaker,
    Chains,
    EcosystemStatus,
    Edited,
    Forecast,
    Link,
    LiveTodo,
    PlanCompletion,
    RepoStatus,
    RunView,
    TodoInView,
)
from coordination.models import Issue, Todo, presentable

R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)


class Page(BaseModel, Generic[R]):
    model_config = ConfigDict(frozen=True)

    result: Sequence[R]
    total: int
    """How many there are: more than in `result` where `limit` cuts them."""


class Cut(BaseModel):
    """An answer whose lists are no longer than was asked for: 10,000 todos are six megabytes, which no agent reads."""

    left_out: dict[str, int] = {}
    """How many of which list are not here; coord_list_todos and its like give them in pages."""


class CutEcosystemStatus(EcosystemStatus, Cut):
    """Where everything stands; `repos`, `counts` and `breakers` are whole."""

    breakers: tuple[Breaker, ...] = ()
    """Circuit breakers that are not at rest: todos behind one that is open are parked until its probe."""


class CutRepoStatus(RepoStatus, Cut):
    """Everything that concerns one repository; `counts` are whole."""

    breaker: Breaker | None = None
    """Its circuit breaker, unless that is at rest."""


class CutPlanCompletion(PlanCompletion, Cut):
    """Whether a plan may count as done, and everything that speaks against it."""


class CutRun(RunView, Cut):
    """A run, everywhere the same; `counts` are whole."""


@dataclass(frozen=True, kw_only=True)
class CutForecast(Forecast):
    """How long a plan takes under each strategy, and what holds it up."""

    left_out: dict[str, int]
    """How many of the critical path are not here."""


class IssueDetails(Issue):
    """An issue with everything that it waits for and holds up."""

    waits_for: tuple[Link, ...]
    holds_up: tuple[Link, ...]


class TodoDetails(TodoInView):
    """A todo with everything that it waits for and holds up."""

    waits_for: tuple[Link, ...]
    holds_up: tuple[Link, ...]
    live: LiveTodo | None = None
    """What the newest run that has it does with it, or has done."""


class EditedIssue(Issue):
    """The issue as it stands now."""

    ready: tuple[str, ...]
    """Ids of what waits for nothing any more."""
    notes: tuple[str, ...]
    """What you should know."""


class EditedTodo(Todo):
    """The todo as it stands now."""

    ready: tuple[str, ...]
    notes: tuple[str, ...]
    run_id: str | None = None
    """The run that waited for it and goes on now: the file says that it is completed when the run has ended."""


def page(records: Sequence[R], limit: int, offset: int) -> Page[R]:
    return Page(result=[*map(presentable, records[offset : offset + limit])], total=len(records))


def cut(kind: type[M], answer: BaseModel, limit: int, whole: Collection[str] = ()) -> M:
    """Return an answer with the first `limit` items of each list but those that stay `whole`."""
    given_fields = dict(answer)
    long = {name: value for name, value in given_fields.items() if isinstance(value, tuple) and len(value) > limit}
    long = {name: value for name, value in long.items() if name not in whole}
    left_out = {name: len(value) - limit for name, value in long.items()}
    return kind(**{**given_fields, **{name: value[:limit] for name, value in long.items()}}, left_out=left_out)


def cut_forecast(foreseen: Forecast, limit: int) -> CutForecast:
    """Return a forecast with the first items of its critical path: it may be all of the plan."""
    path = foreseen.critical_path
    left_out = {"critical_path": len(path) - limit} if len(path) > limit else {}
    whole = {field.name: getattr(foreseen, field.name) for field in fields(foreseen)}
    return CutForecast(**{**whole, "critical_path": path[:limit]}, left_out=left_out)


def with_details(kind: type[M], record: BaseModel, chains: Chains, **more: Any) -> M:
    """Return a record with computed fields."""
    return kind(**dict(presentable(record)), **dict(chains), **more)


def edited(kind: type[M], change: Edited, **more: Any) -> M:
    """Return an edited record with the consequences of the edit."""
    return kind(**{**dict(presentable(change.record)), "ready": change.ready, "notes": change.notes, **more})


def given_fields(arguments: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """Return the fields among the arguments of a tool (its `locals()` as it begins) that were given;
    `others` are no fields.
    """
    return {name: value for name, value in arguments.items() if value is not None and name not in ("session", *others)}
