"""A plan as a graph of todos: checked, ordered and measured.

`build` turns what people wrote into a `PlanGraph`, or refuses with everything that is wrong at once. It imports
networkx, which costs 110 ms: import this module where a graph is needed, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import networkx as nx

from coordination.errors import PlanRefused
from coordination.models import Ecosystem, Level, Plan, Todo
from coordination.nearest import did_you_mean
from coordination.phrases import listed
from coordination.planner import paths
from coordination.planner.blockers import Register, blocked_from_outside
from coordination.planner.cycles import shortest_cycles
from coordination.planner.hours import assumed_hours
from coordination.planner.selection import ALL, Selection, Selectors, find_plan, select
from coordination.planner.supply import Supply, shortfalls

PRIORITY = {level: i for i, level in enumerate((Level.CRITICAL, Level.HIGH, Level.MEDIUM, Level.LOW))}
Neighbours = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class PlanGraph:
    """What a sweep of the plan would do. What takes time to work out is worked out when it is first asked for."""

    plan: Plan
    todos: Mapping[str, Todo]
    """Those that will run, predecessors first: level by level, in the file's order within a level."""
    predecessors: Neighbours
    """The direct ones among `todos`."""
    successors: Neighbours
    blocked: Mapping[str, str]
    """Open todos that cannot run, each with what holds it up, to be read after "blocked by"."""
    blocked_todos: Mapping[str, Todo]
    unreachable: tuple[str, ...]
    """Those of `blocked` that nothing outside holds up directly: they stand behind one that is blocked."""
    assumed_hours: float
    """What a todo without an estimate counts for."""
    done: int
    """How many todos of the plan are completed already, or cancelled."""
    cancelled: int
    left_out: tuple[str, ...]
    """Open todos of the plan that the selectors did not ask for."""
    capacities: Mapping[str, int]
    """Of all resources."""
    nothing_to_do: str
    """Why there is nothing to do, as words; empty when there is something, be it all blocked."""

    @cached_property
    def hours(self) -> Mapping[str, float]:
        return {name: todo.estimated_hours or self.assumed_hours for name, todo in self.todos.items()}

    @cached_property
    def supply(self) -> Supply:
        needing = ((name, todo.resources) for name, todo in self.todos.items() if todo.resources)
        needs = {name: {need.name: need.amount for need in some} for name, some in needing}
        return Supply(capacities=self.capacities, needs=needs)

    @cached_property
    def assumed(self) -> int:
        """How many of `todos` have no estimate."""
        return sum(todo.estimated_hours is None for todo in self.todos.values())

    @cached_property
    def depth(self) -> Mapping[str, int]:
        """The index in `levels` of each todo."""
        return paths.depths(self.todos, self.predecessors)

    @cached_property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """The todos whose predecessors all stand in earlier levels, each level most urgent first."""
        levels: list[list[str]] = [[] for _ in range(1 + max(self.depth.values(), default=-1))]
        for name in self.order:
            levels[self.depth[name]].append(name)
        return tuple(tuple(level) for level in levels)

    @cached_property
    def rank(self) -> Mapping[str, float]:
        """The hours of the longest way from each todo to the end of the plan, itself included."""
        return paths.ranks(tuple(self.todos), self.successors, self.hours)

    @cached_property
    def order(self) -> Mapping[str, int]:
        """0, 1, 2 … from the most urgent todo to the least, in that order: one number that a sorted set can carry.

        The rank decides; only among equals does `priority`, and then the file's order. A critical todo on a short
        path may wait for a minor one on the longest, since every minute lost there is lost for the whole plan.
        """
        position = {name: i for i, name in enumerate(self.todos)}
        # Rounded, so that 0.1 + 0.2 and 0.3 are equals.
        urgency = {n: (-round(self.rank[n], 6), PRIORITY[t.priority], position[n]) for n, t in self.todos.items()}
        return {name: i for i, name in enumerate(sorted(self.todos, key=urgency.__getitem__))}

    @cached_property
    def critical_path(self) -> tuple[str, ...]:
        return paths.critical_path(self.order, self.rank, self.successors)

    @cached_property
    def critical_hours(self) -> float:
        return max(self.rank.values(), default=0.0)

    @cached_property
    def work_hours(self) -> float:
        return sum(self.hours.values())

    @property
    def parallelism(self) -> float:
        """How many todos run at once on average when nothing but their order holds them up: work / critical path."""
        return self.work_hours / self.critical_hours if self.todos else 0.0

    @property
    def width(self) -> int:
        """The size of the largest level."""
        return max(map(len, self.levels), default=0)

    @property
    def edges(self) -> Iterable[tuple[str, str]]:
        return ((name, after) for name, others in self.successors.items() for after in others)

    @cached_property
    def redundant(self) -> tuple[tuple[str, str], ...]:
        """The edges that a longer path implies; nothing changes without them."""
        return paths.redundant_edges(tuple(self.todos), self.predecessors)

    @cached_property
    def repos(self) -> tuple[str, ...]:
        """The repos in which something will run."""
        return tuple(dict.fromkeys(todo.repo for todo in self.todos.values()))


def build(ecosystem: Ecosystem, plan_id: str, wanted: Selectors = ALL) -> PlanGraph:
    """The graph of a plan's open todos that are asked for.

    Raises NotFound for a plan, repo, tag, role or todo of that name that is not there, and PlanRefused with every cycle, unknown
    or cancelled blocker, undeclared repo and lack of a resource at once.
    """
    plan = find_plan(ecosystem, plan_id)
    selection = select(ecosystem, plan, wanted)
    register = Register(ecosystem, plan)
    waits = register.trace(selection.todos)
    graph = _digraph(selection.todos, waits)
    problems = [
        *register.problems(selection.todos),
        *_undeclared_repos(ecosystem, selection.todos),
        *shortfalls(selection.todos.values(), ecosystem.capacities()),
        *_cycles(graph),
    ]
    if problems:
        raise _refusal(plan, problems)
    order = [name for name in nx.topological_sort(graph) if name in selection.todos]
    blocked = blocked_from_outside(order, waits, selection.todos, register)
    return _graph(plan, selection, waits, blocked, order, ecosystem.capacities())


def _digraph(todos: Iterable[str], waits: Neighbours) -> nx.DiGraph[str]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(todos)  # first, and in the file's order: cycles are told in the order of the nodes
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
    held = {name: todo for name, todo in selection.todos.items() if name in blocked}
    running = sorted((name for name in selection.todos if name not in blocked), key=depth.__getitem__)
    return PlanGraph(
        plan=plan,
        todos={name: selection.todos[name] for name in running},
        predecessors={name: waits[name] for name in running},
        successors=_reversed(running, waits),
        blocked={name: blocked[name] for name in held},
        blocked_todos=held,
        unreachable=tuple(name for name in held if all(other in selection.todos for other in waits[name])),
        assumed_hours=assumed_hours(selection.todos),
        done=selection.done,
        cancelled=selection.cancelled,
        left_out=selection.left_out,
        capacities=capacities,
        nothing_to_do=selection.nothing,
    )


def _reversed(names: Iterable[str], predecessors: Neighbours) -> Neighbours:
    successors: dict[str, list[str]] = {name: [] for name in names}
    for name in successors:
        for before in predecessors[name]:
            successors[before].append(name)
    return {name: tuple(others) for name, others in successors.items()}


def _undeclared_repos(ecosystem: Ecosystem, todos: Mapping[str, Todo]) -> Iterable[str]:
    declared = {repo.name for repo in ecosystem.repos}
    users: dict[str, list[str]] = {}
    for todo in todos.values():
        if todo.repo not in declared:
            users.setdefault(todo.repo, []).append(todo.id)
    for repo, names in users.items():
        near = did_you_mean(repo, declared)
        yield f"repo {repo!r} of {listed(names)} is not declared{near}: add it to repos, or correct the name"


def _cycles(graph: nx.DiGraph[str]) -> Iterable[str]:
    if not nx.is_directed_acyclic_graph(graph):
        for cycle in shortest_cycles(graph):
            yield f"a cycle: {' → '.join(cycle)}: take one of these dependencies out"


def _refusal(plan: Plan, problems: list[str]) -> PlanRefused:
    hint = "correct ecosystem.yaml, then: coord validate"
    if len(problems) == 1:
        return PlanRefused(f"{plan.id} cannot be carried out: {problems[0]}", hint)
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return PlanRefused(f"{plan.id} cannot be carried out, for {len(problems)} reasons:\n{lines}", hint)
