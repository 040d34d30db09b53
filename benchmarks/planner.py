"""Measures planning: `python -m benchmarks.planner`.

Each figure is the best of several rounds; the ratio is to networkx's own topological sort of the same graph
in the same process, so that it says something on any machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import networkx as nx

from benchmarks.clock import best
from coordination.models import Coordination, Ecosystem, Plan, Repo, Todo
from coordination.planner.forecast import forecast
from coordination.planner.graph import PlanGraph, build
from coordination.planner.remaining import OpenTodo, Pace, expected_of, rest_s

PLAN = "PLAN-001"


def ecosystem(todos: int, edges: int, repos: int, seed: int = 7) -> Ecosystem:
    """A random plan: every edge goes to a later todo; every third one is written as `blocking` by the earlier
    one.
    """
    dice = random.Random(seed)
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < edges:
        one, other = sorted(dice.sample(range(todos), 2))
        pairs[one, other] = None
    before: list[list[str]] = [[] for _ in range(todos)]
    after: list[list[str]] = [[] for _ in range(todos)]
    for i, (one, other) in enumerate(pairs):
        if i % 3:
            before[other].append(f"TODO-{one}")
        else:
            after[one].append(f"TODO-{other}")
    made = tuple(
        Todo(
            id=f"TODO-{i}",
            task=f"Step {i}",
            repo=f"repo-{i % repos}",
            plan=PLAN,
            estimated_hours=dice.lognormvariate(0, 1),
            blocked_by=tuple(before[i]),
            blocking=tuple(after[i]),
        )
        for i in range(todos)
    )
    declared = tuple(Repo(name=f"repo-{i}") for i in range(repos))
    return Ecosystem(
        repos=declared, coordination=Coordination(plans=(Plan(id=PLAN, title="Benchmark"),), todos=made)
    )


def plan(eco: Ecosystem) -> PlanGraph:
    """Build the parts that every sweep needs: the checked graph, its levels, ranks and critical path."""
    graph = build(eco, PLAN)
    assert graph.levels
    assert graph.critical_path
    return graph


def best_ms(deed: Callable[[], object], rounds: int) -> float:
    return 1000 * best(deed, rounds)


def rest(graph: PlanGraph) -> float | None:
    """Compute the remaining time of a run of which the first half of the todos has ended."""
    expected, names = expected_of(graph), list(graph.todos)
    left = {
        name: OpenTodo(
            expected=expected[name],
            repo=graph.repo_of[name],
            level=graph.depth[name],
            order=graph.order[name],
        )
        for name in names[len(names) // 2 :]
    }
    return rest_s(left, graph.predecessors, slots=100, by_level=False, pace=Pace())


def measure(todos: int, edges: int, repos: int, rounds: int) -> None:
    eco = ecosystem(todos, edges, repos)
    digraph: nx.DiGraph[str] = nx.DiGraph((before, after) for before, after in plan(eco).edges)
    sort_ms = best_ms(lambda: list(nx.topological_sort(digraph)), rounds)
    plan_ms = best_ms(lambda: plan(eco), rounds)
    redundant_ms = best_ms(lambda: build(eco, PLAN).redundant, rounds) - best_ms(
        lambda: build(eco, PLAN), rounds
    )
    graph = plan(eco)
    forecast_ms = best_ms(lambda: forecast(graph), rounds)
    rest_ms = best_ms(partial(rest, graph), rounds)
    print(f"{todos:,} todos, {edges:,} edges, {repos} repos, {len(graph.levels)} levels")
    print(
        f"  build, levels, ranks, critical path  {plan_ms:8.2f} ms   {plan_ms / sort_ms:5.1f} x "
        "networkx's sort"
    )
    print(f"  redundant edges ({len(graph.redundant):,})  {redundant_ms:8.2f} ms")
    print(f"  forecast of both strategies  {forecast_ms:8.2f} ms")
    print(f"  rest of a run, half done  {rest_ms:8.2f} ms   {rest_ms / sort_ms:5.1f} x networkx's sort")
    print(f"  networkx.topological_sort alone  {sort_ms:8.2f} ms")


if __name__ == "__main__":
    measure(50, 150, 10, rounds=50)
    measure(2_000, 6_000, 100, rounds=10)
    measure(10_000, 30_000, 100, rounds=5)
