"""Blockers of todos, across todos, issues, plans and milestones; reasons why a plan cannot be executed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from coordination.errors import PlanRefused
from coordination.models import Ecosystem, Issue, IssueStatus, Milestone, Plan, PlanStatus, Todo, TodoStatus
from coordination.planner.gates import is_milestone
from coordination.text import cycle_text, cycle_through, did_you_mean, listed

if TYPE_CHECKING:  # it takes 110 ms to import, and commands that only list records need none of it
    import networkx as nx

Item = Todo | Issue | Plan | Milestone

FINISHED = frozenset({IssueStatus.RESOLVED, IssueStatus.CLOSED, TodoStatus.COMPLETED, PlanStatus.COMPLETED})
CANCELLED = frozenset({TodoStatus.CANCELLED, PlanStatus.CANCELLED})
OVER = FINISHED | CANCELLED

REASONS_SHOWN = 3
NO_GATES: Mapping[str, Todo] = MappingProxyType({})
NO_OWNERS: Mapping[str, Collection[str]] = MappingProxyType({})
SUGGESTIONS = 10
"""Number of unknown names that get a suggestion, because each search reads all names."""


class Register:
    """All records that can block a todo, by name, and the blockers of each.

    With a plan, the records are seen as in a sweep of it: its todos include those that it owns without being
    named by them, and its milestones with a `gate` are todos.
    """

    def __init__(
        self,
        ecosystem: Ecosystem,
        plan: Plan | None = None,
        gates: Mapping[str, Todo] = NO_GATES,
        owned: Mapping[str, Collection[str]] = NO_OWNERS,
    ) -> None:
        """`owned`: plan → todos that were executed for it. By the file, a plan that no todo names owns only
        open ones.
        """
        self._ecosystem = ecosystem
        self._owned = owned
        self._plan = plan
        self.items = _items(ecosystem, plan, gates)
        self._members = {todo.id for todo in ecosystem.todos_of(plan)} if plan else set()
        self._blocked_by_others: defaultdict[str, list[str]] = defaultdict(list)
        for item in self.items.values():
            if isinstance(item, Todo | Issue):
                for name in item.blocking:
                    self._blocked_by_others[name].append(item.id)
        self._holding_plan: dict[str, list[str]] = {}
        self._todos_of: defaultdict[str, list[str]] = defaultdict(list)
        for todo in ecosystem.coordination.todos:
            if todo.plan is not None:
                self._todos_of[todo.plan].append(todo.id)

    def waits_for(self, name: str) -> dict[str, None]:
        """Return the names of the direct blockers, whatever their status, declared or not; each once, in the
        file's order.
        """
        item = self.items[name]
        others = self._blocked_by_others.get(name, ())
        if isinstance(item, Todo):
            return dict.fromkeys([*item.blocked_by, *others, *self._blockers_of_plan(self._plan_of(item))])
        if isinstance(item, Plan):
            return dict.fromkeys([*self.todos_of(item), *others])
        return dict.fromkeys([*item.dependencies, *others])

    def todos_of(self, plan: Plan) -> Collection[str]:
        """Return the todos of the plan as `Ecosystem.todos_of` does, without a search of all todos."""
        named = self._todos_of.get(plan.id) or [todo.id for todo in self._ecosystem.todos_of(plan)]
        return dict.fromkeys((*named, *self._owned.get(plan.id, ())))

    def is_open(self, name: str) -> bool:
        if name not in self.items:
            return False
        status = self.items[name].status
        return status not in OVER or (status is TodoStatus.COMPLETED and self._is_recurring(name))

    def _is_recurring(self, name: str) -> bool:
        """Return whether the name is a todo of the present plan and that plan is recurring, so that each
        sweep runs it.
        """
        return self._plan is not None and self._plan.recurring and name in self._members

    def trace(self, todos: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the open direct blockers of each of these todos, and of all their blockers, transitively."""
        waits: dict[str, tuple[str, ...]] = {}
        ahead = list(todos)[::-1]
        while ahead:
            name = ahead.pop()
            if name not in waits:
                waits[name] = tuple(blocker for blocker in self.waits_for(name) if self.is_open(blocker))
                ahead.extend(waits[name])
        return waits

    def completed_before(self, todos: Iterable[str]) -> dict[str, str]:
        """Return the completed todos that these todos depend on, also behind finished records, each with the
        todo that depends on it.
        """
        completed: dict[str, str] = {}
        ahead, seen = [(name, name) for name in todos][::-1], set[str]()
        while ahead:
            name, todo = ahead.pop()
            if name in seen or name not in self.items or self.items[name].status in CANCELLED:
                continue
            seen.add(name)
            if isinstance(self.items[name], Todo) and self.items[name].status is TodoStatus.COMPLETED:
                completed[name] = todo
            ahead += [(before, todo) for before in self.waits_for(name)]
        return completed

    def describe(self, name: str) -> str:
        """Return a description of the blocker, to follow "blocked by"."""
        if name in self._members:
            return f"{name}, which is not part of this sweep"
        item = self.items[name]
        text = f"{name} ({item.status}: {_title(item)})"
        return f"{text} of {item.plan}" if isinstance(item, Todo) and item.plan else text

    def problems(self, todos: Mapping[str, Todo]) -> list[str]:
        """Return a sentence, with its remedy, for each undeclared or cancelled blocker of these todos."""
        unknown, cancelled = self._unknown(todos.values()), self._cancelled(todos)
        return [
            *self._unknown_sentences(unknown),
            *(self._cancelled_sentence(name, dependents) for name, dependents in cancelled.items()),
        ]

    def _plan_of(self, todo: Todo) -> str | None:
        return self._plan.id if self._plan and todo.id in self._members else todo.plan

    def _blockers_of_plan(self, plan_id: str | None) -> list[str]:
        """Return the blockers of a plan, without its own todos: those only repeat that the plan waits for
        them.
        """
        if plan_id is None or plan_id not in self._blocked_by_others:
            return []
        if plan_id not in self._holding_plan:
            plan = self.items.get(plan_id)
            own = set(self.todos_of(plan)) if isinstance(plan, Plan) else set()
            self._holding_plan[plan_id] = [b for b in self._blocked_by_others[plan_id] if b not in own]
        return self._holding_plan[plan_id]

    def _unknown(self, todos: Iterable[Todo]) -> list[tuple[str, str, str]]:
        """Return unknown names. A misspelt `blocking` loses an edge as a misspelt `blocked_by` does, and a
        todo would start too early.
        """
        named = [(t.id, "blocked by", name) for t in todos for name in t.blocked_by if name not in self.items]
        return named + [
            (t.id, "blocking", name) for t in todos for name in t.blocking if name not in self.items
        ]

    def _unknown_sentences(self, unknown: list[tuple[str, str, str]]) -> Iterable[str]:
        for i, (todo, verb, name) in enumerate(unknown):
            near = did_you_mean(name, self.items) if i < SUGGESTIONS else ""
            yield (
                f"{todo} is {verb} {name!r}, which the file does not declare{near}: correct the name, "
                "or declare it"
            )

    def _cancelled(self, todos: Iterable[str]) -> dict[str, list[str]]:
        """Return the cancelled blockers of these todos, each with its dependents."""
        dependents: dict[str, list[str]] = {}
        for todo in todos:
            for blocker in self.waits_for(todo):
                if blocker in self.items and self.items[blocker].status in CANCELLED:
                    dependents.setdefault(blocker, []).append(todo)
        return dependents

    def _cancelled_sentence(self, name: str, dependents: Collection[str]) -> str:
        verb = "waits" if len(dependents) == 1 else "wait"
        return (
            f"{name} is cancelled, but {listed(dependents)} {verb} for it: remove the dependency, "
            f"or reopen {name}"
        )


def blocked_from_outside(
    order: Iterable[str], waits: Mapping[str, tuple[str, ...]], selected: Collection[str], register: Register
) -> dict[str, str]:
    """Return the todos of `selected` that cannot run, with a description of their blockers.

    A todo cannot run if a blocker outside of the selection is open, or if a blocker cannot run itself.
    `order` is topological.
    """
    blocked: dict[str, str] = {}
    root: dict[str, str] = {}
    for todo in order:
        outside = [name for name in waits[todo] if name not in selected]
        blocked_blockers = [name for name in waits[todo] if name in blocked]
        if outside or blocked_blockers:
            root[todo] = outside[0] if outside else root[blocked_blockers[0]]
            descriptions = [register.describe(name) for name in outside]
            descriptions += [f"{name}, which is blocked by {root[name]}" for name in blocked_blockers]
            blocked[todo] = _reasons(descriptions)
    return blocked


def _reasons(descriptions: list[str]) -> str:
    more = len(descriptions) - REASONS_SHOWN
    return "; ".join(descriptions[:REASONS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _items(ecosystem: Ecosystem, plan: Plan | None, gates: Mapping[str, Todo]) -> dict[str, Item]:
    """Return all records by name. If two plans have a milestone of the same name, it means that of the
    present plan.
    """
    coordination = ecosystem.coordination
    milestones = [m for p in (*coordination.plans, *([plan] if plan else [])) for m in p.milestones]
    work: tuple[Item, ...] = (*coordination.issues, *coordination.plans, *coordination.todos)
    items: tuple[Item, ...] = (*milestones, *gates.values(), *work)
    return {item.id: item for item in items}


def _title(item: Item) -> str:
    title = item.task if isinstance(item, Todo) else item.name if isinstance(item, Milestone) else item.title
    return " ".join(title.split())


Edges = dict[str, set[str]]


def shortest_cycles(graph: nx.DiGraph[str]) -> list[list[str]]:
    """Return one shortest cycle `[A, B, C, A]` of each strongly connected component (Tarjan 1972, by
    networkx).
    """
    import networkx as nx

    position = {name: i for i, name in enumerate(graph)}
    cycles = []
    for component in nx.strongly_connected_components(graph):
        names = sorted(component, key=position.__getitem__)
        cycle = _shortest_cycle(names, {name: graph.adj[name] for name in names})
        if cycle:
            cycles.append(_rotate_to_first(cycle, position))
    return sorted(cycles, key=lambda cycle: position[cycle[0]])


def _rotate_to_first(cycle: list[str], position: Mapping[str, int]) -> list[str]:
    """Return the cycle starting at its first node in the graph's order, so that messages are stable from run
    to run.
    """
    nodes = cycle[:-1]
    first = nodes.index(min(nodes, key=position.__getitem__))
    return [*nodes[first:], *nodes[:first], nodes[first]]


def _shortest_cycle(names: Iterable[str], adjacency: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a shortest cycle (Itai and Rodeh 1978): a breadth-first search from each node, limited by the
    best cycle so far.

    A node whose search is done cannot lie on a shorter cycle. It is removed, with all nodes that lie on no
    cycle without it. So one cycle of 10,000 todos is searched once, not 10,000 times.
    """
    after: Edges = {name: {other for other in adjacency[name] if other in adjacency} for name in names}
    before: Edges = {name: set() for name in after}
    for name, others in after.items():
        for other in others:
            before[other].add(name)
    best: list[str] = []
    for name in list(after):
        if name in after:
            best = cycle_through(name, after, len(best) - 1) or best
            _drop(name, after, before)
    return best


def _drop(name: str, after: Edges, before: Edges) -> None:
    """Remove the node, and then every node that has no predecessors or no successors left."""
    ahead = [name]
    while ahead:
        removed = ahead.pop()
        if removed not in after:
            continue
        for other in after.pop(removed) - {removed}:
            before[other].discard(removed)
            if not before[other]:
                ahead.append(other)
        for other in before.pop(removed) - {removed}:
            after[other].discard(removed)
            if not after[other]:
                ahead.append(other)


def undeclared_repos(ecosystem: Ecosystem, todos: Mapping[str, Todo]) -> Iterable[str]:
    """Yield a sentence, with its remedy, for each undeclared repository of these todos."""
    declared = {repo.name for repo in ecosystem.repos}
    users: dict[str, list[str]] = {}
    for todo in todos.values():
        if todo.repo not in declared and not is_milestone(todo):
            users.setdefault(todo.repo, []).append(todo.id)
    for repo, names in users.items():
        near = did_you_mean(repo, declared)
        yield f"repo {repo!r} of {listed(names)} is not declared{near}: add it to repos, or correct the name"


def ambiguous(gates: Mapping[str, Todo], register: Register) -> Iterable[str]:
    """Yield a sentence for each milestone with a gate whose id another record has."""
    for name, gate in gates.items():
        if register.items[name] is not gate:
            yield (
                f"milestone {name} has a gate, and another record has that id, too: "
                "give the milestone another one"
            )


def cycles(graph: nx.DiGraph[str]) -> Iterable[str]:
    """Yield a sentence, with its remedy, for each cycle that `shortest_cycles` finds."""
    import networkx as nx

    if not nx.is_directed_acyclic_graph(graph):
        for cycle in shortest_cycles(graph):
            yield f"a cycle: {cycle_text(cycle)}: remove one of these dependencies"


def refusal(plan: Plan, problems: list[str]) -> PlanRefused:
    """Return the error with all problems of a plan."""
    hint = "correct ecosystem.yaml, then: coord validate"
    if len(problems) == 1:
        return PlanRefused(f"{plan.id} cannot be executed: {problems[0]}", hint)
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return PlanRefused(f"{plan.id} cannot be executed, for {len(problems)} reasons:\n{lines}", hint)
