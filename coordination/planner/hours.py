"""Durations of todos: estimated by people, learned from earlier runs, or assumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from urllib.parse import quote

from coordination.models import Todo

UNKNOWN_HOURS = 1.0
"""Hours of a todo if no todo of the plan has an estimate; the critical path is then the one with the most
todos.
"""
LABELS_LENGTH = 64
"""Longest label part of a group's name; longer ones are hashed, because the name is stored with each todo of
a run.
"""


@dataclass(frozen=True)
class Group:
    """Todos that are expected to take equally long: same repository, kind of action and labels."""

    repo: str
    kind: str
    """`shell`, or `shell:docs,urgent` for todos with labels."""

    @property
    def wider(self) -> Group:
        """The group without labels."""
        return Group(self.repo, self.kind.partition(":")[0])


Learned = Mapping[Group, float]
"""Median hours of the todos of each group."""


class LearnedFrom(StrEnum):
    """Source of learned durations."""

    REDIS = "redis"
    """The last 25 of each group, for 90 days after the newest."""
    HISTORY = "history"
    """The events of earlier runs: also available without Redis."""


MS_IN_AN_HOUR = 3_600_000


def medians(durations: Mapping[Group, Sequence[float]]) -> dict[Group, float]:
    """Return the learned hours of each group from its durations in ms; groups without any are left out."""
    return {group: median(some) / MS_IN_AN_HOUR for group, some in durations.items() if some}


def group_of(todo: Todo) -> Group:
    return Group(todo.repo, kind_of(todo))


def kind_of(todo: Todo) -> str:
    """Return the kind of action and the labels as one word without spaces."""
    name = todo.action.type if todo.action else "agent"
    labels = ",".join(sorted(quote(label, safe="") for label in todo.labels))
    if len(labels) > LABELS_LENGTH:
        labels = hashlib.sha256(labels.encode()).hexdigest()[:16]
    return f"{name}:{labels}" if labels and name != "manual" else name


def groups(todos: Iterable[Todo]) -> set[Group]:
    """Return the groups of todos without an estimate, and their wider groups as a fallback."""
    narrow = {group_of(todo) for todo in todos if todo.estimated_hours is None}
    return narrow | {group.wider for group in narrow}


def learned_hours(todo: Todo, learned: Learned) -> float | None:
    """Return the hours of the todo's group, else of its wider group; None if neither is known."""
    group = group_of(todo)
    return learned.get(group, learned.get(group.wider))


def assumed_hours(todos: Mapping[str, Todo]) -> float:
    """Return the hours of a todo without estimate or experience: the median of the estimates, as outliers
    distort a mean.
    """
    estimates = [todo.estimated_hours for todo in todos.values() if todo.estimated_hours is not None]
    return median(estimates) if estimates else UNKNOWN_HOURS
