"""An event of the history, and the figures that trends need of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, ClassVar

from pydantic import Field, field_validator

from coordination.declared import Column, Table
from coordination.frozen import FrozenModel
from coordination.models import OPEN_TODO, IssueStatus
from coordination.planner.hours import MS_IN_AN_HOUR


class HistoryEvent(FrozenModel):
    """`kind` is `noun.verb`, `subject` the id of the record, `changes` maps fields to [before, after].

    `record` has the record's main fields as they are afterwards, `data` whatever else the kind has. `matched`
    is the text that a search found, with the words in brackets.
    """

    shown: ClassVar = Table(
        columns=(
            Column("TIME"),
            Column("ZONE", wide=True),
            Column("EVENT"),
            Column("ID"),
            Column("BY", wide=True),
            Column("WHAT", flexible=True, folds=True),
        ),
        none="no event matches",
        next_step="list the latest: coord history search",
    )

    id: str
    at: datetime
    kind: str
    subject: str = ""
    title: str = ""
    actor: str = ""
    repos: tuple[str, ...] = ()
    changes: Mapping[str, Any] = {}
    record: Mapping[str, Any] = {}
    data: Mapping[str, Any] = {}
    matched: str = ""
    parts: tuple[HistoryEvent, ...] = Field(default=(), exclude=True)
    """Changes that this event stands for; they are counted in figures and not kept."""

    @field_validator("at")
    @classmethod
    def _check_time(cls, at: datetime) -> datetime:
        """Refuse times that have no local time in some zone, and those of before computers."""
        if at.tzinfo is None or not EARLIEST <= at < LATEST:
            raise ValueError("needs a time with a zone, from 1970 on")
        return at

    @field_validator("changes")
    @classmethod
    def _check_changes(cls, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        if any(not isinstance(values, list | tuple) or len(values) != 2 for values in changes.values()):
            raise ValueError("needs a list [before, after] for each field")
        return changes

    @property
    def entity(self) -> str:
        return self.kind.partition(".")[0]

    @property
    def subjects(self) -> frozenset[str]:
        """Return all ids that the event concerns: its subject, the plan of a milestone, the run of a todo,
        and the records of a foreign change.
        """
        named = self.data.get("subjects")
        also = [one for one in named if isinstance(one, str)] if isinstance(named, list | tuple) else []
        run = self.data.get("run")
        owner = self.subject.partition("/")[0]
        return frozenset({self.subject, owner, run if isinstance(run, str) else "", *also} - {""})


OPEN = frozenset(status.value for status in OPEN_TODO)
DONE = {"completed": "done", "resolved": "done", "closed": "done", "cancelled": "dropped"}
COUNTED = ("existing", "created", "done", "dropped", "reopened", "deleted")
"""Verbs that are counted per day; `existing` is an open record of the time when the history began."""
TOOK, WAITED = "took:", "waited:"
"""Prefixes of the names of figures: the duration of similar todos in ms, the hours waited for a reason."""
MEASURED = (".lead_h", ".cycle_h", ".actual_by_estimate", ".by_bound")
"""Suffixes of the names of figures whose single values are kept."""
MOST = 1e15
"""A number of this size or larger is forged and counts as 0: it would hide all others in a sum."""
DAY_ANYWHERE = timedelta(hours=38)
"""A moment of a day, in whatever zone, is less than this from the midnight in UTC that begins the day."""
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One value of a day: `created` of a todo, `lead_h` of an issue. `repo` is empty for all repositories."""

    name: str
    repo: str = ""
    assignee: str = ""
    value: float = 1.0

    @property
    def measured(self) -> bool:
        """Return whether single values are kept, for medians."""
        return self.name.endswith(MEASURED) or self.name.startswith(TOOK)


def figures_of(
    event: HistoryEvent, created_at: Callable[[HistoryEvent], datetime | None]
) -> Iterator[Figure]:
    """Yield the figures of an event: one of each name for all repositories, and one for each that it names.
    `created_at` returns the time of the event that created the record, if it is known.
    """
    for part in event.parts:
        yield from figures_of(part, created_at)
    yield from _waits_of(event)
    values = (*_values_of(event, created_at), *_values_of_run(event))
    for repo in ("", *event.repos):
        for name, value in values:
            yield Figure(name=name, repo=repo, assignee=str(event.record.get("assignee", "")), value=value)


def _values_of_run(event: HistoryEvent) -> Iterator[tuple[str, float]]:
    """Yield the figures of an attempt's end, or of a run's."""
    data = event.data
    if event.kind == "todo.settled" and "undo" not in data and data.get("state") in ("succeeded", "failed"):
        took, group = _number(data.get("duration_ms")), data.get("group")
        yield f"run.{data['state']}", 1.0
        yield "run.retried", max(0.0, _number(data.get("attempt")) - 1)
        yield "run.cached", float(bool(data.get("cached")))
        yield "run.worked_h", (took + _number(data.get("tried_ms"))) / MS_IN_AN_HOUR
        if data["state"] == "succeeded" and isinstance(group, str) and took > 0 and not data.get("cached"):
            for similar in {group, group.partition(":")[0]}:  # with labels, and without
                yield f"{TOOK}{similar}", took
    if event.kind == "run.ended" and data.get("status") == "succeeded":
        took, bound = _number(data.get("duration_ms")) / 1000, _number(data.get("bound_s"))
        if took > 0 and bound > 0:
            yield "run.by_bound", _number(took / bound)


def _waits_of(event: HistoryEvent) -> Iterator[Figure]:
    waits = event.data.get("waits")
    if event.kind != "run.ended" or not isinstance(waits, Mapping):
        return
    for repo, reasons in waits.items():
        for reason, seconds in reasons.items() if isinstance(reasons, Mapping) else ():
            for whose in {"", str(repo)}:
                yield Figure(name=f"{WAITED}{reason}", repo=whose, value=_number(seconds) / 3600)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < MOST else 0.0


def _values_of(
    event: HistoryEvent, created_at: Callable[[HistoryEvent], datetime | None]
) -> Iterator[tuple[str, float]]:
    if event.entity not in ("issue", "todo"):
        return
    verb = event.kind.partition(".")[2]
    name = DONE.get(verb, verb)
    if verb == "closed" and event.changes.get("status", ("",))[0] == IssueStatus.RESOLVED:
        return  # it was counted when it was resolved
    if name == "deleted" and event.record.get("status") not in OPEN:
        return
    if name in COUNTED:
        yield f"{event.entity}.{name}", 1.0
    if name != "done":
        return
    if (hours := hours_between(event.record.get("created"), event.at, created_at(event))) is not None:
        yield f"{event.entity}.lead_h", hours
    estimated, actual = event.record.get("estimated_hours"), event.record.get("actual_hours")
    if event.entity == "todo" and (hours := _number(estimated) or _number(actual)):
        yield "todo.hours", hours
    if isinstance(actual, int | float):
        yield f"{event.entity}.cycle_h", _number(actual)
        if estimate := _number(estimated):
            yield f"{event.entity}.actual_by_estimate", _number(_number(actual) / estimate)


def hours_between(created: object, moment: datetime, recorded: datetime | None) -> float | None:
    """Return the hours from the creation of a record to a moment; None if it is not known. `created`: its
    date, as the file has it; `recorded`: the time of its creation in the history, which is exact.
    """
    begin, is_day = _begin(created)
    if recorded is not None and (begin is None or (is_day and abs(recorded - begin) < DAY_ANYWHERE)):
        begin = recorded
    return None if begin is None else max(0.0, (moment - begin).total_seconds() / 3600)


def _begin(created: object) -> tuple[datetime | None, bool]:
    """Return the time of a date, and whether it is that of a whole day."""
    if not isinstance(created, str):
        return None, False
    try:
        begin = datetime.fromisoformat(created)
    except ValueError:
        return None, False
    if len(created) <= len("2026-01-31"):
        return datetime.combine(begin.date(), time(), UTC), True
    return begin if begin.tzinfo else begin.replace(tzinfo=UTC), False
