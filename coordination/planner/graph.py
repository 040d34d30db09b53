"""A plan as a graph of todos: validated, ordered and measured; also with its finished todos, to be drawn.

`build` turns the file's records into a `PlanGraph`, or raises PlanRefused with every problem at once,
including one shortest cycle of each strongly connected component. Importing networkx costs 110 ms, so only
the functions that need it do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from coordination.models import Ecosystem, Level, ManualAction, Plan, Todo, TodoStatus, reads_of
from coordination.planner import paths
from coordination.planner.blockers import (
    Register,
    ambiguous,
    blocked_from_outside,
    cycles,
    refusal,
    undeclared_repos,
)
from coordination.planner.checks import checks_of_plan, taken_names, wrong_agents, wrong_checks
from coordination.planner.gates import (
    MILESTONE_REPO,
    gates_before,
    gates_of,
    is_milestone,
    needs_approval,
    open_gates,
)
from coordination.planner.hours import Group, Learned, LearnedFrom, assumed_hours, groups, learned_hours
from coordination.planner.schedule import DIGITS, Supply, shortfalls
from coordination.planner.selection import AD_HOC, ALL, Selection, Selectors, find_plan, select
from coordination.text import counted

if TYPE_CHECKING:
    import networkx as nx

PRIORITY = {level: i for i, level in enumerate((Level.CRITICAL, Level.HIGH, Level.MEDIUM, Level.LOW))}
Neighbours = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class PlanGraph:
    """The todos that a sweep of the plan would execute, with their order. Expensive properties are computed
    on first use.
    """

    plan: Plan
    todos: Mapping[str, Todo]
    """Todos that will run, predecessors first: by level, in the file's order within a level; includes
    milestones with a gate.
    """
    predecessors: Neighbours
    """Direct predecessors among `todos`."""
    successors: Neighbours
    blocked: Mapping[str, str]
    """Open todos that cannot run, each with its blockers as a phrase that follows "blocked by"."""
    blocked_todos: Mapping[str, Todo]
    unreachable: tuple[str, ...]
    """Todos of `blocked` that are blocked only by other blocked todos."""
    assumed_hours: float
    """Hours of a todo without estimate or experience."""
    done: int
    """Number of the plan's todos that are completed already."""
    cancelled: int
    left_out: tuple[str, ...]
    """Open todos of the plan that the selectors excluded."""
    capacities: Mapping[str, int]
    """Capacities of all resources."""
    nothing_to_do: str
    """Reason why there is nothing to do; empty if there are open todos, even if all are blocked."""

    learned: Mapping[str, float] = field(default_factory=dict)
    """Hours of todos without an estimate, from similar todos in earlier runs."""
    learned_from: LearnedFrom | None = None
    """Source of `learned`; None if nothing was learned."""
    finished: frozenset[str] = frozenset()
    """Nodes of `todos` that no sweep runs any more; only a graph to be drawn has some."""

    def with_learned(self, learned: Learned, source: LearnedFrom = LearnedFrom.REDIS) -> PlanGraph:
        """Return the graph with the hours learned in earlier runs; `source`: where they were kept."""
        unestimated = [
            (n, t) for n, t in self.todos.items() if t.estimated_hours is None and not is_milestone(t)
        ]
        found = {
            name: hours for name, todo in unestimated if (hours := learned_hours(todo, learned)) is not None
        }
        return replace(self, learned=found, learned_from=source) if found else self

    @cached_property
    def unknown(self) -> Collection[Group]:
        """Groups of todos whose hours are unknown."""
        return groups(todo for todo in self.todos.values() if not is_milestone(todo))

    @cached_property
    def hours(self) -> Mapping[str, float]:
        """Hours by todo; an approval counts as 0, because its duration cannot be forecast."""
        return {
            name: 0.0
            if is_milestone(todo) or name in self.finished
            else todo.estimated_hours or self.learned.get(name, self.assumed_hours)
            for name, todo in self.todos.items()
        }

    @cached_property
    def repo_of(self) -> Mapping[str, str]:
        """Repository by todo; MILESTONE_REPO for manual todos, which occupy neither a
        repository nor a slot.
        """
        return {
            n: MILESTONE_REPO if isinstance(t.action, ManualAction) else t.repo for n, t in self.todos.items()
        }

    @cached_property
    def supply(self) -> Supply:
        needing = (
            (name, todo.resources)
            for name, todo in self.todos.items()
            if todo.resources and self.repo_of[name] != MILESTONE_REPO
        )
        needs = {name: {need.name: need.amount for need in some} for name, some in needing}
        return Supply(capacities=self.capacities, needs=needs)

    @cached_property
    def assumed(self) -> int:
        """Number of todos without estimate or experience."""
        unestimated = sum(
            todo.estimated_hours is None and not is_milestone(todo) and name not in self.finished
            for name, todo in self.todos.items()
        )
        return unestimated - len(self.learned)

    @cached_property
    def milestones(self) -> tuple[str, ...]:
        """Nodes of `todos` that are milestones, which only need an approval."""
        return tuple(name for name, todo in self.todos.items() if is_milestone(todo))

    @property
    def approvals(self) -> tuple[str, ...]:
        """Nodes of `todos` that need an approval."""
        return tuple(name for name, todo in self.todos.items() if needs_approval(todo))

    @property
    def size(self) -> str:
        """The amount of work in words: `3 todos`, `3 todos and 1 milestone`."""
        todos = counted(len(self.todos) - len(self.finished) - len(self.milestones), "todo")
        return f"{todos} and {counted(len(self.milestones), 'milestone')}" if self.milestones else todos

    @cached_property
    def depth(self) -> Mapping[str, int]:
        """Index in `levels` by todo."""
        return paths.depths(self.todos, self.predecessors)

    @cached_property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Todos by level, so that all predecessors are in earlier levels; each level with the most urgent
        first.
        """
        levels: list[list[str]] = [[] for _ in range(1 + max(self.depth.values(), default=-1))]
        for name in self.order:
            levels[self.depth[name]].append(name)
        return tuple(tuple(level) for level in levels)

    @cached_property
    def rank(self) -> Mapping[str, float]:
        """Hours of the longest path from each todo to the end of the plan, including the todo."""
        return paths.ranks(tuple(self.todos), self.successors, self.hours)

    @cached_property
    def order(self) -> Mapping[str, int]:
        """Position of each todo from the most to the least urgent, as one number that a sorted set can hold.

        The rank decides, then `priority`, then the file's order. So a todo of critical priority on a short
        path may wait for a minor one on the longest path, because a delay there delays the whole plan.
        """
        position = {name: i for i, name in enumerate(self.todos)}
        urgency = {
            n: (-round(self.rank[n], DIGITS), PRIORITY[t.priority], position[n])
            for n, t in self.todos.items()
        }
        return {name: i for i, name in enumerate(sorted(self.todos, key=urgency.__getitem__))}

    @cached_property
    def critical_path(self) -> tuple[str, ...]:
        path = paths.critical_path(self.order, self.rank, self.successors)
        return tuple(name for name in path if name not in self.finished)

    @cached_property
    def critical_hours(self) -> float:
        return max(self.rank.values(), default=0.0)

    @cached_property
    def work_hours(self) -> float:
        return sum(self.hours.values())

    @property
    def parallelism(self) -> float:
        """Average number of todos that run at once if only dependencies limit them: work / critical path."""
        return self.work_hours / self.critical_hours if self.critical_hours else 0.0

    @property
    def width(self) -> int:
        """Size of the largest level."""
        return max(map(len, self.levels), default=0)

    @property
    def edges(self) -> Iterable[tuple[str, str]]:
        return ((name, after) for name, others in self.successors.items() for after in others)

    @cached_property
    def redundant(self) -> tuple[tuple[str, str], ...]:
        """Edges that a longer path implies."""
        return paths.redundant_edges(tuple(self.todos), self.predecessors)

    @cached_property
    def repos(self) -> tuple[str, ...]:
        """Repositories in which todos will run."""
        return tuple(dict.fromkeys(todo.repo for todo in self.todos.values() if not is_milestone(todo)))

    @property
    def reads(self) -> frozenset[str]:
        """Return the other repositories that the agents of the todos see."""
        return frozenset(name for todo in self.todos.values() for name in reads_of(todo))


def build(ecosystem: Ecosystem, plan_id: str, wanted: Selectors = ALL) -> PlanGraph:
    """Build the graph of the plan's selected open todos.

    Raises NotFound for an unknown plan, repository, tag, role or todo, and PlanRefused with all cycles,
    unknown or cancelled blockers, undeclared repositories and resource shortfalls at once.
    """
    import networkx as nx

    plan = find_plan(ecosystem, plan_id)
    selection = select(ecosystem, plan, wanted)
    gates = gates_of(plan)
    checks = checks_of_plan(ecosystem, plan, selection.todos)
    register = Register(ecosystem, plan, {**gates, **checks})
    waits = register.trace([*selection.todos, *gates, *checks])
    joined = _participating_gates(selection, gates, waits)
    repos = {repo.name: repo for repo in ecosystem.repos}
    chosen = {
        name: todo.working_in(repos[todo.repo]) if todo.repo in repos else todo
        for name, todo in {**selection.todos, **checks}.items()
    }
    selection = replace(selection, todos={**chosen, **joined})
    todos = selection.todos
    if len(joined) < len(gates):  # what only the other gates wait for refuses nothing
        waits = register.trace(todos)
    graph = _digraph(todos, waits)
    problems = [
        *register.problems(todos),
        *undeclared_repos(ecosystem, todos),
        *taken_names(ecosystem, checks),
        *wrong_checks(ecosystem, todos.values()),
        *wrong_agents(ecosystem, todos.values()),
        *shortfalls(todos.values(), ecosystem.capacities()),
        *ambiguous(joined, register),
        *cycles(graph),
    ]
    if problems:
        raise refusal(plan, problems)
    order = [name for name in nx.topological_sort(graph) if name in todos]
    blocked = blocked_from_outside(order, waits, todos, register)
    return _graph(plan, selection, waits, blocked, order, ecosystem.capacities())


def _participating_gates(
    selection: Selection, gates: Mapping[str, Todo], waits: Neighbours
) -> dict[str, Todo]:
    """Return the gates that take part: all open ones if the whole plan is swept, else those that the selected
    todos wait for.
    """
    if selection.todos and not selection.left_out:
        return open_gates(gates)
    return gates_before(gates, selection.todos, waits)


def _digraph(todos: Iterable[str], waits: Mapping[str, Iterable[str]]) -> nx.DiGraph[str]:
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(todos)  # first, and in the file's order, which determines the order of cycles
    graph.add_edges_from((before, name) for name, others in waits.items() for before in others)
    return graph


def _graph(
    plan: Plan,
    selection: Selection,
    waits: Neighbours,
    blocked: Mapping[str, str],
    order: list[str],
    capacities: Mapping[str, int],
) -> PlanGraph:
    depth = paths.depths([name for name in order if name not in blocked], waits)
    blocked_todos = {name: todo for name, todo in selection.todos.items() if name in blocked}
    running = sorted((name for name in selection.todos if name not in blocked), key=depth.__getitem__)
    if all(is_milestone(selection.todos[name]) for name in running):
        running = []  # an approval is pointless if no todo can follow
    return PlanGraph(
        plan=plan,
        todos={name: selection.todos[name] for name in running},
        predecessors={name: waits[name] for name in running},
        successors=paths.successors(running, waits),
        blocked={name: blocked[name] for name in blocked_todos},
        blocked_todos=blocked_todos,
        unreachable=tuple(
            name for name in blocked_todos if all(other in selection.todos for other in waits[name])
        ),
        assumed_hours=assumed_hours(selection.todos),
        done=selection.done,
        cancelled=selection.cancelled,
        left_out=selection.left_out,
        capacities=capacities,
        nothing_to_do=selection.nothing,
    )


def alone(ecosystem: Ecosystem, todo: Todo, timeout: timedelta | None = None) -> PlanGraph:
    """Return the graph of a single todo, in its plan or an ad-hoc one. `timeout` replaces the todo's own.
    Raises PlanRefused.
    """
    plan = next((p for p in ecosystem.coordination.plans if todo in ecosystem.todos_of(p)), None)
    if plan is None:
        plan = Plan(id=AD_HOC, title=f"only {todo.id}")
        ecosystem = _with_ad_hoc_plan(ecosystem, plan, todo)
    graph = build(ecosystem, plan.id, Selectors(todos=[todo.id]))
    if timeout and todo.id in graph.todos:
        graph = replace(graph, todos={**graph.todos, todo.id: todo.model_copy(update={"timeout": timeout})})
    return replace(graph, nothing_to_do=f"{todo.id} is {todo.status}") if graph.nothing_to_do else graph


def _with_ad_hoc_plan(ecosystem: Ecosystem, plan: Plan, todo: Todo) -> Ecosystem:
    parts = ecosystem.coordination
    todos = tuple(t.model_copy(update={"plan": plan.id}) if t.id == todo.id else t for t in parts.todos)
    return ecosystem.with_coordination(plans=(*parts.plans, plan), todos=todos)


def with_finished(
    graph: PlanGraph,
    ecosystem: Ecosystem,
    wanted: Selectors = ALL,
    executing: Collection[str] = (),
    succeeded: Collection[str] = (),
) -> PlanGraph:
    """Return the graph with the selected todos of the plan that are finished, before those that are not.

    `executing`: todos that a live run executes, which are shown in progress; `succeeded`: those that have
    succeeded there, which are shown as completed. A dependency of a finished todo on an open one is left out:
    it no longer counts.
    """
    is_selected = wanted.test(ecosystem)
    known = {*graph.todos, *graph.blocked_todos, *graph.left_out}
    over = {t.id: t for t in ecosystem.todos_of(graph.plan) if t.id not in known and is_selected(t)}
    register = Register(ecosystem, graph.plan, gates_of(graph.plan))
    before = {name: [other for other in register.waits_for(name) if other in over] for name in over}
    predecessors: dict[str, tuple[str, ...]] = {name: tuple(before[name]) for name in _ordered(before)}
    for name, others in graph.predecessors.items():
        predecessors[name] = (*others, *(n for n in register.waits_for(name) if n in over))
    depth = paths.depths(predecessors, predecessors)
    order = sorted(predecessors, key=depth.__getitem__)
    todos = {**over, **graph.todos}
    return replace(
        graph,
        todos={name: _shown(todos[name], name in executing, name in succeeded) for name in order},
        predecessors={name: predecessors[name] for name in order},
        successors=paths.successors(order, predecessors),
        finished=frozenset({*over, *graph.todos} & {*over, *succeeded}),
    )


def count_by_status(graph: PlanGraph) -> Mapping[str, int]:
    """Return status → number of todos; todos that cannot run count as blocked."""
    statuses = (state_of(graph, name).value for name in graph.todos if name not in graph.milestones)
    return Counter([*statuses, *[TodoStatus.BLOCKED.value] * len(graph.blocked)])


def state_of(graph: PlanGraph, name: str) -> TodoStatus:
    """Return the status of a todo; a completed todo that a recurring plan runs again is pending."""
    status = graph.todos[name].status
    again = status is TodoStatus.COMPLETED and name not in graph.finished
    return TodoStatus.PENDING if again else status


def _ordered(before: dict[str, list[str]]) -> list[str]:
    """Return the names in topological order. Finished todos may wait for each other: then all lose their
    predecessors.
    """
    import networkx as nx

    graph = _digraph(before, before)
    if not nx.is_directed_acyclic_graph(graph):
        for others in before.values():
            others.clear()
        return list(before)
    return list(nx.topological_sort(graph))


def _shown(todo: Todo, executed: bool, succeeded: bool) -> Todo:
    if not executed and not succeeded:
        return todo
    return todo.model_copy(update={"status": TodoStatus.COMPLETED if succeeded else TodoStatus.IN_PROGRESS})
