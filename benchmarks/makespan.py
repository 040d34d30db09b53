"""How long plans take against the least that any schedule could: `python -m benchmarks.makespan [--seeds 30]
[--no-runs] [--json [FILE]]`.

Simulated first, by the code that decides a sweep's strategy: for each shape
(benchmarks/of_makespan/shapes.py), spread of the durations, number of slots P and seed, `dataflow` over the
bound max(longest path, work / P, busiest repository), with levels beside it. The statistics are of all cases
together, and none may be worse than levels; whichever is, is named.

Then real runs: some of these plans with todos that sleep, 2.5 s on average, in worktrees of real git
repositories, by a worker with P threads; from the run's start to its end. Allowed is what the simulation of
the same durations says + 3 % + 10 ms for each level of the plan (`depth`). What the run takes is told apart:
what each todo takes beyond its sleep (worktree, guard, git), and how much longer the run is than the
simulation of what its todos really took (what is lost between them).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, median, quantiles
from typing import Any

from benchmarks.of_makespan.shapes import SHAPES, Shape, draw
from benchmarks.report import Report, parser, report
from benchmarks.testbed import PLAN
from benchmarks.workshop import Workshop, ecosystem, workshop
from coordination.models import Strategy
from coordination.planner.graph import PlanGraph, build
from coordination.planner.schedule import bound, simulate
from coordination.planner.strategy import Choice, choose_strategy

SLOTS = (4, 8, 16)
SIGMAS = (0.5, 1.0)
MEDIAN, P90, NEVER_WORSE = 1.02, 1.30, 1e-9
SHARE, LEVEL_S = 0.03, 0.010
RUNS = [
    ("fork-join", 0.5, 8),
    ("jupyter", 1.0, 4),
    ("repos", 0.5, 16),
    ("repos", 1.0, 16),
    ("lattice", 0.5, 8),
]
"""Those that are also carried out: shape, sigma, P."""
SHORT = {"seeds": 2, "mean": 0.1}
LIMIT_S = 120.0


@dataclass(frozen=True)
class Case:
    shape: str
    sigma: float
    slots: int
    seed: int

    @cached_property
    def drawn(self) -> Shape:
        return draw(self.shape, self.sigma, self.seed)

    @property
    def name(self) -> str:
        return f"{self.shape}, sigma {self.sigma:g}, P = {self.slots}"


@dataclass(frozen=True)
class Found:
    case: Case
    dataflow: float
    """Over the bound, as levels is."""
    levels: float

    @property
    def worse(self) -> bool:
        return self.dataflow > self.levels * (1 + NEVER_WORSE)


def todos(drawn: Shape, hours: float = 1.0) -> list[dict[str, Any]]:
    """`hours`: of the file, for each unit of the durations."""
    return [
        {
            "id": name,
            "repo": step.repo,
            "blocked_by": list(step.before),
            "estimated_hours": step.duration * hours,
        }
        for name, step in drawn.items()
    ]


def simulated(graph: PlanGraph, slots: int) -> Choice:
    return choose_strategy(graph, max_parallel=slots, strategy=Strategy.DATAFLOW)


def found(case: Case, graph: PlanGraph) -> Found:
    least = bound(graph.hours, graph.predecessors, graph.repo_of, case.slots)
    both = simulated(graph, case.slots)
    return Found(case, both.dataflow.makespan / least, both.levels.makespan / least)


def cases(seeds: int) -> Iterator[list[Found]]:
    """For each row of the table."""
    for shape in SHAPES:
        for sigma in SIGMAS:
            rows: dict[int, list[Found]] = {slots: [] for slots in SLOTS}
            for seed in range(seeds):
                graph = build(ecosystem(todos(draw(shape, sigma, seed))), PLAN)
                for slots in SLOTS:
                    rows[slots].append(found(Case(shape, sigma, slots, seed), graph))
            yield from rows.values()


def p90(values: Sequence[float]) -> float:
    return quantiles(values, n=10, method="inclusive")[-1] if len(values) > 1 else values[0]


def simulate_all(rows: Report, seeds: int) -> None:
    every: list[Found] = []
    for row in cases(seeds):
        every += row
        flow, levels = [it.dataflow for it in row], [it.levels for it in row]
        beside = f"p90 {p90(flow):.3f}, most {max(flow):.3f}; levels {median(levels):.3f}"
        rows.add(f"  {row[0].case.name}", median(flow), "x", beside=beside)
    flow = [it.dataflow for it in every]
    rows.add(f"dataflow over the bound, {len(every)} cases: median", median(flow), "x", at_most=MEDIAN)
    rows.add("  p90", p90(flow), "x", at_most=P90, beside=f"most {max(flow):.3f}")
    worse = [it for it in every if it.worse]
    named = "; ".join(
        f"{it.case.name}, seed {it.case.seed}: {it.dataflow:.4f} and {it.levels:.4f}" for it in worse
    )
    rows.add("cases in which levels is faster", len(worse), at_most=0, beside=named)


def carry_out(rows: Report, case: Case, mean_s: float) -> None:
    sleeps = {name: step.duration for name, step in case.drawn.items()}
    scale = mean_s / mean(sleeps.values())
    sleeps = {name: round(duration * scale, 3) for name, duration in sleeps.items()}
    plan = [{**todo, "action": f"sleep {sleeps[todo['id']]}"} for todo in todos(case.drawn, scale / 3600)]
    declared = ecosystem(plan)
    graph = build(declared, PLAN)
    choice = simulated(graph, case.slots)
    foreseen_s = choice.dataflow.makespan * 3600
    with workshop([repo.name for repo in declared.repos], with_git=True) as shop, shop.worker(case.slots):
        warm(shop)
        run_id = shop.start(declared, graph, Strategy.DATAFLOW, remaining=choice.remaining)
        shop.finished(run_id, LIMIT_S)
        run = shop.connection.reader.read(run_id)
    assert run.duration_s is not None
    depth = len(graph.levels)
    allowed = 1 + SHARE + LEVEL_S * depth / foreseen_s
    took = {todo.id: todo.duration_s or 0.0 for todo in run.todos}
    own = 1000 * median(took[name] - sleeps[name] for name in sleeps)
    beside = (
        f"{run.duration_s:.2f} s, simulated {foreseen_s:.2f} s; {len(plan)} todos, depth {depth}; "
        f"a todo takes {own:.0f} ms beyond its sleep, the run "
        f"{waited(graph, took, case.slots, run.duration_s):.3f} x those"
    )
    rows.add(
        f"run of {case.name}", run.duration_s / foreseen_s, "x", at_most=round(allowed, 4), beside=beside
    )


def waited(graph: PlanGraph, took: Mapping[str, float], slots: int, run_s: float) -> float:
    """The run over the simulation of what its todos really took: what is above 1 was lost between them, or to
    another order.
    """
    slots = min(slots, len(graph.repos))
    left = {name: hours * 3600 for name, hours in simulated(graph, slots).remaining.items()}
    again = simulate(
        took, graph.predecessors, graph.repo_of, slots=slots, urgency=graph.order, remaining=left
    )
    return run_s / again.makespan


def warm(shop: Workshop) -> None:
    """The worker's first todo loads what the others find loaded."""
    run_id = shop.submit([{"id": "warm", "repo": shop.repos[0], "action": "true"}], Strategy.DATAFLOW)
    shop.finished(run_id, LIMIT_S)


def main(options: argparse.Namespace) -> None:
    with report("makespan", options) as rows:
        simulate_all(rows, options.seeds)
        for shape, sigma, slots in options.runs:
            carry_out(rows, Case(shape, sigma, slots, seed=0), options.mean)


if __name__ == "__main__":
    asked = parser(__doc__, "makespan")
    asked.add_argument("--seeds", type=int, default=30, metavar="N", help="draws of each shape, sigma and P")
    asked.add_argument(
        "--mean", type=float, default=2.5, metavar="S", help="of the todos' sleeps in the real runs"
    )
    asked.add_argument(
        "--no-runs", dest="runs", action="store_const", const=[], default=RUNS, help="simulate only"
    )
    options = asked.parse_args()
    if options.short:
        vars(options).update(SHORT, runs=options.runs[:1])
    main(options)
