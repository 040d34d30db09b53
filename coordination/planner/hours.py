"""How long todos take: what people estimated, what was learned where they did not, what is assumed, and how hours are said."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from urllib.parse import quote

from coordination.models import Todo

UNKNOWN_HOURS = 1.0
"""Taken where no todo of the plan has an estimate: then the longest path is simply the one with the most todos."""
LABELS_LENGTH = 64
"""Longer ones are told apart by a hash: a group's name is kept with each todo of a run."""


@dataclass(frozen=True)
class Group:
    """Todos that are taken to be alike: of one repository, one kind of action, the same labels."""

    repo: str
    kind: str
    """`shell`, or `shell:docs,urgent` of those with labels."""

    @property
    def wider(self) -> Group:
        """Whatever the labels."""
        return Group(self.repo, self.kind.partition(":")[0])


Learned = Mapping[Group, float]
"""How many hours the todos of a group took in the median."""


def group_of(todo: Todo) -> Group:
    return Group(todo.repo, kind_of(todo))


def kind_of(todo: Todo) -> str:
    """One word, without spaces."""
    name = todo.action.type if todo.action else "agent"
    labels = ",".join(sorted(quote(label, safe="") for label in todo.labels))
    if len(labels) > LABELS_LENGTH:
        labels = hashlib.sha256(labels.encode()).hexdigest()[:16]
    return f"{name}:{labels}" if labels and name != "manual" else name


def groups(todos: Iterable[Todo]) -> set[Group]:
    """Of those without an estimate, with what is looked at where nothing is known of a group."""
    found = {group_of(todo) for todo in todos if todo.estimated_hours is None}
    return found | {group.wider for group in found}


def learned_hours(todo: Todo, learned: Learned) -> float | None:
    """Of its like, else of its repository and kind of action; None where nothing of either is known."""
    group = group_of(todo)
    return learned.get(group, learned.get(group.wider))


def assumed_hours(todos: Mapping[str, Todo]) -> float:
    """What a todo counts for of which nothing is known: the median of the estimates. The mean would follow one outlier."""
    given = [todo.estimated_hours for todo in todos.values() if todo.estimated_hours is not None]
    return median(given) if given else UNKNOWN_HOURS
