"""Trends of runs: todos that succeeded and failed, retries, reuse, time waited, and makespan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from coordination.history.events import TOOK, WAITED
from coordination.history.store import HistoryStore
from coordination.history.trends import directions, quantile, window_of

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
        _figures(_summed(by_day, since, until), _by_bound(store, repo, since, until))
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


def _figures(sums: Sums, makespan_by_bound: float | None) -> RunFigures:
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
