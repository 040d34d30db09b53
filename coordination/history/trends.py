"""Trends: what changed per day in a window of days, and the direction against the window before."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from coordination.errors import UsageError
from coordination.history.store import HistoryStore

MOST_DAYS = 365
ENTITIES = ("issue", "todo")
OPENING, CLOSING = ("existing", "created", "reopened"), ("done", "dropped", "deleted")
MEASURED = ("lead_h", "cycle_h", "actual_by_estimate")
STEADY = 0.1
"""Relative change below which a figure has no direction."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Values of one window. Hours are None where nothing ended in it."""

    created: int
    done: int
    lead_h_median: float | None
    lead_h_p90: float | None
    cycle_h_median: float | None
    cycle_h_p90: float | None
    actual_by_estimate: float | None


@dataclass(frozen=True, kw_only=True)
class Day:
    day: str
    created: int
    done: int
    open: int


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Trends of issues or of todos. `direction` maps each figure to up, down or steady; None if unknown."""

    entity: str
    days: tuple[Day, ...]
    now: Figures
    before: Figures
    direction: dict[str, str | None]
    done_by_repo: dict[str, int]
    done_by_assignee: dict[str, int]


def trends(
    store: HistoryStore, *, repo: str | None = None, days: int = 30, now: datetime
) -> tuple[Trend, ...]:
    """Return the trends of the last `days` days, today included. Raises UsageError."""
    if not 1 <= days <= MOST_DAYS:
        raise UsageError(f"{days} days cannot be shown", f"choose from 1 to {MOST_DAYS}")
    return tuple(_trend(store, entity, repo, days, now) for entity in ENTITIES)


def _trend(store: HistoryStore, entity: str, repo: str | None, days: int, now: datetime) -> Trend:
    today = now.astimezone(UTC).date()
    window = [(today - timedelta(days=n)).isoformat() for n in reversed(range(days))]
    begin, earlier = window[0], (today - timedelta(days=2 * days - 1)).isoformat()
    reader = _Reader(store, entity, repo)
    by_day = reader.counts(earlier)
    count, shown = _net(reader.total(begin)), []
    for day in window:
        counted = by_day[day]
        count += _net(counted)
        shown.append(Day(day=day, created=counted["created"], done=counted["done"], open=max(0, count)))
    current = _figures([by_day[day] for day in window], reader.values(begin, "9999"))
    previous = _figures([by_day[day] for day in by_day if day < begin], reader.values(earlier, begin))
    return Trend(
        entity=entity,
        days=tuple(shown),
        now=current,
        before=previous,
        direction={
            name: _direction(getattr(previous, name), getattr(current, name))
            for name in Figures.__dataclass_fields__
        },
        done_by_repo=reader.done_by("repo", begin),
        done_by_assignee=reader.done_by("assignee", begin),
    )


class _Reader:
    """Reads the figures of one entity, of all repositories or of one."""

    def __init__(self, store: HistoryStore, entity: str, repo: str | None) -> None:
        self._store, self._entity = store, entity
        self._repo = repo or ""

    def _rows(self, what: str, condition: str, *values: str, end: str = "") -> list[Any]:
        whose = ("repo = ?", self._repo) if self._repo or what[:5] != "repo," else ("repo != ?", "")
        names = (f"{self._entity}.", f"{self._entity}/")
        sql = (
            f"SELECT {what} FROM figures WHERE {whose[0]} AND name > ? AND name < ? "  # noqa: S608
            f"AND {condition} {end}"
        )
        return self._store.rows(sql, whose[1], *names, *values)

    def _verb(self, name: str) -> str:
        return name.removeprefix(f"{self._entity}.")

    def counts(self, since: str) -> dict[str, Counter[str]]:
        """Return day → verb or figure → number of its values."""
        by_day: dict[str, Counter[str]] = defaultdict(Counter)
        for day, name, number in self._rows(
            "day, name, COUNT(*)", "day >= ?", since, end="GROUP BY day, name"
        ):
            by_day[day][self._verb(name)] = number
        return by_day

    def total(self, until: str) -> Counter[str]:
        rows = self._rows("name, COUNT(*)", "day < ?", until, end="GROUP BY name")
        return Counter({self._verb(name): number for name, number in rows})

    def values(self, since: str, until: str) -> dict[str, list[float]]:
        """Return figure → its values, of those that are measured."""
        found: dict[str, list[float]] = defaultdict(list)
        measured = " OR ".join(f"name = '{self._entity}.{figure}'" for figure in MEASURED)
        for name, value in self._rows("name, value", f"day >= ? AND day < ? AND ({measured})", since, until):
            found[self._verb(name)].append(value)
        return found

    def done_by(self, column: str, since: str) -> dict[str, int]:
        """Return repository or assignee → number of its records that were done, most first."""
        rows = self._rows(
            f"{column}, COUNT(*)",
            f"name = '{self._entity}.done' AND {column} != '' AND day >= ?",
            since,
            end=f"GROUP BY {column} ORDER BY COUNT(*) DESC, {column}",
        )
        return {str(name): number for name, number in rows}


def _net(counted: Counter[str]) -> int:
    return sum(counted[verb] for verb in OPENING) - sum(counted[verb] for verb in CLOSING)


def _figures(days: Iterable[Counter[str]], values: Mapping[str, Sequence[float]]) -> Figures:
    counted = sum(days, Counter[str]())
    return Figures(
        created=counted["created"],
        done=counted["done"],
        lead_h_median=_quantile(values.get("lead_h", ()), 0.5),
        lead_h_p90=_quantile(values.get("lead_h", ()), 0.9),
        cycle_h_median=_quantile(values.get("cycle_h", ()), 0.5),
        cycle_h_p90=_quantile(values.get("cycle_h", ()), 0.9),
        actual_by_estimate=_quantile(values.get("actual_by_estimate", ()), 0.5),
    )


def _quantile(values: Sequence[float], share: float) -> float | None:
    """Return the quantile with linear interpolation (type 7 of Hyndman and Fan, 1996)."""
    if not values:
        return None
    if len(values) == 1:
        return round(values[0], 2)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return round(cuts[round(share * 100) - 1], 2)


def _direction(before: float | None, now: float | None) -> str | None:
    if before is None or now is None:
        return None
    if abs(now - before) <= STEADY * max(abs(before), abs(now)):
        return "steady"
    return "up" if now > before else "down"
