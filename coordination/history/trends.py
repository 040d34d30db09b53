"""Trends: what changed per day in a window of days, and the direction against the window before."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from coordination.errors import UsageError
from coordination.history.store import HistoryStore

MOST_DAYS = 365
ENTITIES = ("issue", "todo")
OPENING, CLOSING = ("existing", "created", "reopened"), ("done", "dropped", "deleted")
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


@dataclass(frozen=True, kw_only=True)
class _Row:
    day: str
    name: str
    repo: str
    assignee: str
    value: float


def _trend(store: HistoryStore, entity: str, repo: str | None, days: int, now: datetime) -> Trend:
    today = now.astimezone(UTC).date()
    window = [(today - timedelta(days=n)).isoformat() for n in reversed(range(days))]
    earlier = (today - timedelta(days=2 * days - 1)).isoformat()
    condition, values = (" AND repo = ?", (repo,)) if repo is not None else ("", ())
    rows = [
        _Row(**dict(row))
        for row in store.rows(
            f"SELECT day, name, repo, assignee, value FROM figures WHERE name LIKE ? AND day >= ?{condition}",  # noqa: S608
            f"{entity}.%",
            earlier,
            *values,
        )
    ]
    opened = store.rows(
        "SELECT name, SUM(value) AS n FROM figures WHERE name LIKE ? AND day < ?"  # noqa: S608
        f"{condition} GROUP BY name",
        f"{entity}.%",
        window[0],
        *values,
    )
    by_day: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_day[row.day][row.name.partition(".")[2]] += 1
    count = _net(Counter({row["name"].partition(".")[2]: int(row["n"]) for row in opened}))
    shown = []
    for day in window:
        counted = by_day[day]
        count += _net(counted)
        shown.append(Day(day=day, created=counted["created"], done=counted["done"], open=max(0, count)))
    recent = [row for row in rows if row.day >= window[0]]
    current, previous = _figures(recent), _figures([row for row in rows if row.day < window[0]])
    done = [row for row in recent if row.name == f"{entity}.done"]
    return Trend(
        entity=entity,
        days=tuple(shown),
        now=current,
        before=previous,
        direction={
            name: _direction(getattr(previous, name), getattr(current, name))
            for name in Figures.__dataclass_fields__
        },
        done_by_repo=dict(Counter(row.repo for row in done if row.repo).most_common()),
        done_by_assignee=dict(Counter(row.assignee for row in done if row.assignee).most_common()),
    )


def _net(counted: Counter[str]) -> int:
    return sum(counted[verb] for verb in OPENING) - sum(counted[verb] for verb in CLOSING)


def _figures(rows: Sequence[_Row]) -> Figures:
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        values[row.name.partition(".")[2]].append(row.value)
    return Figures(
        created=len(values["created"]),
        done=len(values["done"]),
        lead_h_median=_quantile(values["lead_h"], 0.5),
        lead_h_p90=_quantile(values["lead_h"], 0.9),
        cycle_h_median=_quantile(values["cycle_h"], 0.5),
        cycle_h_p90=_quantile(values["cycle_h"], 0.9),
        actual_by_estimate=_quantile(values["actual_by_estimate"], 0.5),
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
