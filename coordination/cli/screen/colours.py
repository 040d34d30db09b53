"""What a state looks like: the same colour for the same word in every table and on every page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from functools import cache

from coordination.cli.screen.tables import Cell

STYLES: Mapping[str, str] = {
    "in_progress": "cyan",
    "active": "cyan",
    "running": "cyan",
    "dispatched": "cyan",
    "parked": "yellow",
    "retrying": "yellow",
    "rolling_back": "yellow",
    "compensating": "yellow",
    "compensated": "yellow",
    "rolled_back": "yellow",
    "rollback_failed": "red bold",
    "compensation_failed": "red bold",
    "blocked": "red",
    "unsatisfied": "red",
    "failed": "red",
    "critical": "red bold",
    "high": "yellow",
    "on_hold": "yellow",
    "unknown": "yellow",
    "deprecated": "yellow",
    "resolved": "green",
    "closed": "green",
    "completed": "green",
    "satisfied": "green",
    "succeeded": "green",
    "low": "dim",
    "draft": "dim",
    "cancelled": "dim",
}
"""Statuses, priorities and states in a run. What has none here is nothing to look at twice."""


@cache
def told(word: str | None) -> Cell:
    """A status, a priority, a severity."""
    return Cell(str(word or ""), STYLES.get(word or "", ""))


def due(target: date | datetime | None, today: date, *, over: bool) -> Cell:
    """A day, red where it has passed and the work is not `over`."""
    if target is None:
        return Cell("")
    day = target.date() if isinstance(target, datetime) else target
    return Cell(day.isoformat(), "red" if day < today and not over else "")
