"""Trends of records and runs: changes per day in a window of days, and the direction against the window
before.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from coordination.errors import UsageError
from coordination.history.events import TOOK, WAITED
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
    hours_by_repo: dict[str, float]
    """Velocity: the estimated hours, or else the actual ones, of what was done. Todos only."""
    hours_by_assignee: dict[str, float]


def trends(
    store: HistoryStore, *, repo: str | None = None, days: int = 30, now: datetime
) -> tuple[Trend, ...]:
    """Return the trends of the last `days` days, today included. Raises UsageError."""
    if not 1 <= days <= MOST_DAYS:
        raise UsageError(f"{days} days cannot be shown", f"choose from 1 to {MOST_DAYS}")
    return tuple(_trend(store, entity, repo, days, now) for entity in ENTITIES)


def window_of(days: int, now: datetime) -> tuple[list[str], str]:
    """Return the last `days` days, today included, and the first day of the window before."""
    today = now.astimezone(UTC).date()
    window = [(today - timedelta(days=n)).isoformat() for n in reversed(range(days))]
    return window, (today - timedelta(days=2 * days - 1)).isoformat()


def _trend(store: HistoryStore, entity: str, repo: str | None, days: int, now: datetime) -> Trend:
    window, earlier = window_of(days, now)
    begin = window[0]
    reader = FigureReader(store, entity, repo)
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
        direction=directions(previous, current),
        done_by_repo={name: int(number) for name, number in reader.by("repo", "done", begin).items()},
        done_by_assignee={name: int(number) for name, number in reader.by("assignee", "done", begin).items()},
        hours_by_repo=reader.by("repo", "hours", begin),
        hours_by_assignee=reader.by("assignee", "hours", begin),
    )


class FigureReader:
    """Reads the figures of one entity, of all repositories or of one."""

    def __init__(self, store: HistoryStore, entity: str, repo: str | None) -> None:
        self._store, self._entity = store, entity
        self._repo = repo or ""

    def _rows(self, sql: str, *values: str) -> list[Any]:
        """`sql` begins with conditions on repo and on the first and last possible name."""
        names = (f"{self._entity}.", f"{self._entity}/")
        return self._store.rows(sql, self._repo, *names, *values)

    def _verb(self, name: str) -> str:
        return name.removeprefix(f"{self._entity}.")

    def counts(self, since: str) -> dict[str, Counter[str]]:
        """Return day → verb or figure → number of its values."""
        by_day: dict[str, Counter[str]] = defaultdict(Counter)
        rows = self._rows(
            "SELECT day, name, SUM(number) FROM daily WHERE repo = ? AND name > ? AND name < ? AND day >= ? "
            "GROUP BY day, name",
            since,
        )
        for day, name, number in rows:
            by_day[day][self._verb(name)] = number
        return by_day

    def total(self, until: str) -> Counter[str]:
        """Return verb or figure → number of its values before a day."""
        rows = self._rows(
            "SELECT name, SUM(number) FROM daily WHERE repo = ? AND name > ? AND name < ? AND day < ? "
            "GROUP BY name",
            until,
        )
        return Counter({self._verb(name): number for name, number in rows})

    def values(self, since: str, until: str) -> dict[str, list[float]]:
        """Return figure → its values, of those that are measured."""
        by_figure: dict[str, list[float]] = defaultdict(list)
        rows = self._rows(
            "SELECT name, value FROM figures "
            "WHERE repo = ? AND name > ? AND name < ? AND day >= ? AND day < ?",
            since,
            until,
        )
        for name, value in rows:
            by_figure[self._verb(name)].append(value)
        return by_figure

    def by(self, column: str, figure: str, since: str) -> dict[str, float]:
        """Return repository or assignee → sum of a figure, the largest first."""
        all_repos = column == "repo" and not self._repo
        rows = self._store.rows(
            f"SELECT {column}, SUM(total) AS total FROM daily "  # noqa: S608 (our names)
            f"WHERE {'repo != ?' if all_repos else 'repo = ?'} AND name = ? AND {column} != '' AND day >= ? "
            f"GROUP BY {column} ORDER BY total DESC, {column}",
            self._repo,
            f"{self._entity}.{figure}",
            since,
        )
        return {str(name): round(number, 2) for name, number in rows}


def _net(counted: Counter[str]) -> int:
    return sum(counted[verb] for verb in OPENING) - sum(counted[verb] for verb in CLOSING)


def _figures(days: Iterable[Counter[str]], values: Mapping[str, Sequence[float]]) -> Figures:
    counted = sum(days, Counter[str]())
    return Figures(
        created=counted["created"],
        done=counted["done"],
        lead_h_median=quantile(values.get("lead_h", ()), 0.5),
        lead_h_p90=quantile(values.get("lead_h", ()), 0.9),
        cycle_h_median=quantile(values.get("cycle_h", ()), 0.5),
        cycle_h_p90=quantile(values.get("cycle_h", ()), 0.9),
        actual_by_estimate=quantile(values.get("actual_by_estimate", ()), 0.5),
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the quantile with linear interpolation (type 7 of Hyndman and Fan, 1996)."""
    if not values:
        return None
    if len(values) == 1:
        return round(values[0], 2)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return round(cuts[round(share * 100) - 1], 2)


def directions(before: Any, now: Any) -> dict[str, str | None]:
    """Return the direction of each field of two records of figures: up, down, steady, or None if unknown."""
    return {
        field.name: _direction(getattr(before, field.name), getattr(now, field.name)) for field in fields(now)
    }


def _direction(before: float | None, now: float | None) -> str | None:
    if before is None or now is None:
        return None
    if abs(now - before) <= STEADY * max(abs(before), abs(now)):
        return "steady"
    return "up" if now > before else "down"


LEARNED_FROM = 25
"""Durations of a group of similar todos that forecasts use, as in Redis."""

Sums = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """Values of one window; shares are from 0 to 1, and None where no todo ended."""

    succeeded: int
    failed: int
    failure_rate: float | None
    retries: int
    cache_hit_rate: float | None
    """Share of the todos whose result was reused."""
    worked_h: float
    waited_h: float
    makespan_by_bound: float | None
    """Median of a run's duration by its lower bound: 1 if no schedule could have been faster."""


@dataclass(frozen=True, kw_only=True)
class RunDay:
    day: str
    succeeded: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class RunTrend:
    """`direction` maps each figure to up, down or steady; None if unknown."""

    entity: str
    days: tuple[RunDay, ...]
    now: RunFigures
    before: RunFigures
    direction: dict[str, str | None]
    waited_h_by_cause: dict[str, float]
    """Wait reason → hours, summed over all todos, the largest first."""
    worked_h_by_repo: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Trends:
    """The trends of issues, todos and runs."""

    issue: Trend
    todo: Trend
    run: RunTrend


def run_trend(store: HistoryStore, *, repo: str | None, days: int, now: datetime) -> RunTrend:
    """Return the trend of the last `days` days, today included."""
    window, earlier = window_of(days, now)
    begin = window[0]
    by_day: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for day, name, total in store.rows(
        "SELECT day, name, SUM(total) FROM daily WHERE repo = ? AND day >= ? "
        "AND (name GLOB 'run.*' OR name GLOB ?) GROUP BY day, name",
        repo or "",
        earlier,
        f"{WAITED}*",
    ):
        by_day[day][name] = total
    current, previous = (
        _run_figures(_summed(by_day, since, until), _by_bound(store, repo, since, until))
        for since, until in ((begin, "9999"), (earlier, begin))
    )
    sums = _summed(by_day, begin, "9999")
    waited = {name.removeprefix(WAITED): round(h, 4) for name, h in sums.items() if name.startswith(WAITED)}
    return RunTrend(
        entity="run",
        days=tuple(
            RunDay(
                day=day,
                succeeded=int(by_day[day].get("run.succeeded", 0)),
                failed=int(by_day[day].get("run.failed", 0)),
            )
            for day in window
        ),
        now=current,
        before=previous,
        direction=directions(previous, current),
        waited_h_by_cause=dict(sorted(waited.items(), key=lambda item: -item[1])),
        worked_h_by_repo={
            name: round(hours, 4)
            for name, hours in store.rows(
                "SELECT repo, SUM(total) AS hours FROM daily WHERE name = 'run.worked_h' AND repo != '' "
                "AND (? = '' OR repo = ?) AND day >= ? GROUP BY repo ORDER BY hours DESC, repo",
                repo or "",
                repo or "",
                begin,
            )
        },
    )


def _summed(by_day: Mapping[str, Sums], since: str, until: str) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for day, values in by_day.items():
        if since <= day < until:
            for name, value in values.items():
                sums[name] += value
    return sums


def _by_bound(store: HistoryStore, repo: str | None, since: str, until: str) -> float | None:
    rows = store.rows(
        "SELECT value FROM figures WHERE repo = ? AND name = 'run.by_bound' AND day >= ? AND day < ?",
        repo or "",
        since,
        until,
    )
    return quantile([row["value"] for row in rows], 0.5)


def _run_figures(sums: Sums, makespan_by_bound: float | None) -> RunFigures:
    succeeded, failed = int(sums.get("run.succeeded", 0)), int(sums.get("run.failed", 0))
    ended = succeeded + failed
    return RunFigures(
        succeeded=succeeded,
        failed=failed,
        failure_rate=round(failed / ended, 4) if ended else None,
        retries=int(sums.get("run.retried", 0)),
        cache_hit_rate=round(sums.get("run.cached", 0) / ended, 4) if ended else None,
        worked_h=round(sums.get("run.worked_h", 0), 4),
        waited_h=round(sum(hours for name, hours in sums.items() if name.startswith(WAITED)), 4),
        makespan_by_bound=makespan_by_bound,
    )


def durations(store: HistoryStore, repo: str, group: str) -> list[float]:
    """Return the last durations, in ms, of a group of similar todos."""
    rows = store.rows(
        "SELECT value FROM figures WHERE repo = ? AND name = ? ORDER BY day DESC, rowid DESC LIMIT ?",
        repo,
        f"{TOOK}{group}",
        LEARNED_FROM,
    )
    return [float(row["value"]) for row in rows]
