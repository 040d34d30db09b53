"""How long todos take: what people estimated, what is assumed where they did not, and how hours are said."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from coordination.models import Todo

UNKNOWN_HOURS = 1.0
"""Taken where no todo of the plan has an estimate: then the longest path is simply the one with the most todos."""


def assumed_hours(todos: Mapping[str, Todo]) -> float:
    """What a todo without an estimate counts for: the median of the others. The mean would follow one outlier."""
    given = [todo.estimated_hours for todo in todos.values() if todo.estimated_hours is not None]
    return median(given) if given else UNKNOWN_HOURS


def say(hours: float) -> str:
    """`0 h`, `36 s`, `30 min`, `2.5 h`, `1,250 h`: as exact as an estimate deserves."""
    if hours == 0 or hours >= 1 - 1e-9:
        words = f"{hours:,.1f}" if hours >= 10 else f"{hours:.2f}".rstrip("0")
        return f"{words.removesuffix('.0').removesuffix('.')} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
