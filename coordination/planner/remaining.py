"""Compute the progress of a run in percent, and its remaining time. Pure: no I/O, no clock.

**Percent** is the share of the work that is over, weighted by the durations that were expected when the run
was submitted. These weights never change, so that no later estimate moves it backwards: it falls only where
an attempt is lost or has failed and is made again, because that work is done again, and where a rollback
begins. A running todo counts by its elapsed time, up to `LATE` of its weight however long it takes. 100 %
means that the run has ended. The figure is a function of the run's records and of the time of Redis, so two
readers get the same one at the same time, wherever they are. One that follows a run (`ProgressReader`) shows
the highest figure so far; one that comes later cannot know that, and may show less.

**The rest** is the makespan of a simulated schedule (schedule.py) of the todos that have not ended, with
durations that are corrected by what has happened in the run: for each source of expectations the geometric
mean of actual / expected, because a mean of logarithms is robust against single outliers. Estimates of people
are corrected by the first todo that ends, since they may say hours where a command takes seconds; learned
durations count as `PRIOR` todos that took as long as expected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import exp, floor, isfinite, log
from statistics import median
from typing import TYPE_CHECKING

from coordination.models import NoopAction, Todo
from coordination.planner.gates import is_milestone
from coordination.planner.schedule import NOTHING_SHARED, Supply, bound, simulate

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph

LATE = 0.95
"""Greatest share of its weight that a running todo counts for."""
OVERTIME = 0.1
"""Least time that a running todo is assumed to need further, as a share of its elapsed time."""
SIMULATED = 2000
"""Number of todos up to which the rest is simulated (33 ms; 50,000 take fifty times that); for more it is the
lower bound of any schedule, which takes linear time.
"""
LONGEST_S = 1e9
"""Greatest duration that is counted for a todo: 31 years."""
SLOWEST = 1e6
"""Greatest correction of a duration, and its inverse the smallest."""


class Basis(StrEnum):
    """Origin of an expected duration."""

    ESTIMATED = "estimated"
    """`estimated_hours` of the todo."""
    LEARNED = "learned"
    """Median of similar todos in earlier runs."""
    ASSUMED = "assumed"
    """Median of the estimated and learned durations of the plan."""
    FIXED = "fixed"
    """Time that passes by the clock, such as the soak of a wave."""
    UNKNOWN = "unknown"
    """The plan has no such duration: all todos count the same."""

    @property
    def letter(self) -> str:
        return self[0]


SOURCES = frozenset(source.value for source in Basis)
PRIOR: Mapping[Basis, int] = {Basis.LEARNED: 2}
"""Todos that took as long as expected, by which a correction is weakened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Duration that was expected of a todo when its run was submitted."""

    seconds: float
    source: Basis

    def __str__(self) -> str:
        """Return the text that a run stores: `14400000 estimated`."""
        return f"{round(1000 * self.seconds)} {self.source}"

    @classmethod
    def parse(cls, text: str | None) -> Expected | None:
        """Parse the text that a run stores; None if it is invalid, because anybody may have written it to
        Redis.
        """
        ms, _, source = (text or "").partition(" ")
        if not ms.isascii() or not ms.isdigit() or source not in SOURCES:
            return None
        return cls(seconds=min(int(ms[:15]) / 1000, LONGEST_S), source=Basis(source))


def expected_of(graph: PlanGraph) -> dict[str, Expected]:
    """Return the expected duration of each todo of the plan. An approval takes none: nobody can know it."""
    estimated = {name: todo.estimated_hours for name, todo in graph.todos.items() if todo.estimated_hours}
    known = [*estimated.values(), *(graph.learned[name] for name in graph.learned if name not in estimated)]
    assumed = (median(known), Basis.ASSUMED) if known else (graph.assumed_hours, Basis.UNKNOWN)
    found: dict[str, Expected] = {}
    for name, todo in graph.todos.items():
        if soak_s := soak_of(todo):
            hours, source = soak_s / 3600, Basis.FIXED
        elif name in estimated:
            hours, source = estimated[name], Basis.ESTIMATED
        elif is_milestone(todo):
            hours, source = 0.0, Basis.ESTIMATED
        elif name in graph.learned:
            hours, source = graph.learned[name], Basis.LEARNED
        else:
            hours, source = assumed
        found[name] = Expected(seconds=min(3600 * hours, LONGEST_S), source=source)
    return found


def soak_of(todo: Todo) -> float:
    """Return the seconds for which the todo lets a wave soak; 0 for any other todo."""
    if not isinstance(todo.action, NoopAction) or not todo.action.soak or todo.gate is None:
        return 0.0
    return todo.gate.timeout.total_seconds() if todo.gate.timeout else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTodo:
    """A todo that has not ended."""

    expected: Expected
    repo: str
    """MILESTONE_REPO where it needs neither repository nor slot."""
    level: int
    order: float
    """The smaller, the more urgent."""
    elapsed_s: float | None = None
    """Time since its attempt or its soak began; None where neither has."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Durations so far, compared with the expected ones: the number of todos and the sum of the logarithms of
    actual / expected, for each source.
    """

    todos: Mapping[Basis, int] = field(default_factory=dict)
    logs: Mapping[Basis, float] = field(default_factory=dict)

    def factors(self, running: Iterable[OpenTodo]) -> Mapping[Basis, float]:
        """Return source → the factor that corrects its durations. A running todo counts, too, once it has
        taken longer than expected.
        """
        count = defaultdict(int, self.todos)
        logs = defaultdict(float, self.logs)
        for todo in running:
            expected_s, elapsed_s = todo.expected.seconds, todo.elapsed_s or 0.0
            if 0 < expected_s < elapsed_s:
                count[todo.expected.source] += 1
                logs[todo.expected.source] += log(elapsed_s / expected_s)
        if not count[Basis.ASSUMED]:  # such a duration is made of the others, and is as good as they are
            count[Basis.ASSUMED], logs[Basis.ASSUMED] = (
                sum(count.values()),
                sum(logs.values()),
            )
        return {source: _factor(logs[source], count[source] + PRIOR.get(source, 0)) for source in Basis}

    def knows(self, todo: OpenTodo) -> bool:
        """Return whether anything is known about the duration of the todo."""
        return todo.expected.source is not Basis.UNKNOWN or self.todos.get(Basis.UNKNOWN, 0) > 0


def _factor(logs: float, count: float) -> float:
    mean = logs / count if count > 0 and isfinite(logs) else 0.0
    return exp(min(max(mean, -log(SLOWEST)), log(SLOWEST)))


def percent(
    *, total_s: float, ended_s: float, running: Iterable[OpenTodo] = (), todos: int = 0, ended: int = 0
) -> float:
    """Return the share of a live run's work that is over, in percent, rounded down to a tenth; 99.9 at most.

    `total_s`, `ended_s`: expected durations of all todos and of those that have ended. Where none is expected
    to take any time, their numbers count: `todos`, `ended`.
    """
    if total_s > 0:
        done = ended_s + sum(
            min(max(todo.elapsed_s or 0.0, 0.0), LATE * todo.expected.seconds) for todo in running
        )
        share = done / total_s
    else:
        share = ended / todos if todos > 0 else 0.0
    return min(max(floor(1000 * share + 1e-9) / 10, 0.0), 99.9)


def rest_s(
    todos: Mapping[str, OpenTodo],
    predecessors: Mapping[str, Collection[str]],
    *,
    slots: int,
    by_level: bool,
    pace: Pace,
    supply: Supply = NOTHING_SHARED,
) -> float | None:
    """Return the seconds that these todos still take with so many slots; None where nothing is known about
    one of them. `predecessors`: each key comes after its own predecessors.

    Time that nobody can know is not counted: approvals, pauses, the delay before another attempt, and what
    other runs do with the slots.
    """
    if not all(pace.knows(todo) for todo in todos.values()):
        return None
    running = [todo for todo in todos.values() if todo.elapsed_s is not None]
    factors = pace.factors(running)
    durations = {name: _left_s(todo, factors[todo.expected.source]) for name, todo in todos.items()}
    slots = max(slots, len(running), 1)
    repo_of = {name: todo.repo for name, todo in todos.items()}
    by_urgency = sorted(todos, key=lambda name: (todos[name].elapsed_s is None, todos[name].order))
    levels = _levels(todos, by_urgency) if by_level else None
    before = {
        name: [other for other in others if other in todos]
        for name, others in predecessors.items()
        if name in todos
    }
    if len(todos) > SIMULATED:
        return bound(durations, before, repo_of, slots, levels)
    urgency = {name: i for i, name in enumerate(by_urgency)}
    ranks = {name: LONGEST_S * (len(urgency) - i) for name, i in urgency.items()}
    return simulate(
        durations, before, repo_of, slots=slots, urgency=urgency,
        remaining=ranks, levels=levels, supply=supply,
    ).makespan  # fmt: skip


def _levels(todos: Mapping[str, OpenTodo], by_urgency: Iterable[str]) -> Sequence[Sequence[str]]:
    levels: defaultdict[int, list[str]] = defaultdict(list)
    for name in by_urgency:
        levels[todos[name].level].append(name)
    return [levels[level] for level in sorted(levels)]


def _left_s(todo: OpenTodo, factor: float) -> float:
    whole_s = min(todo.expected.seconds * factor, LONGEST_S)
    if todo.elapsed_s is None:
        return whole_s
    elapsed_s = max(todo.elapsed_s, 0.0)
    return max(whole_s - elapsed_s, OVERTIME * elapsed_s)
