"""How many todos that do nothing a worker carries out in a second, beside plain Celery and what people would
use instead.

python -m benchmarks.throughput [--levels 10] [--todos 10000] [--repos 20] [--jobs 2] [--rounds 3]
[--no-peers] [--json [FILE]]

A graph of levels, each todo after three of the level above, is submitted before the clock starts; a real
worker with two threads carries it out. Its rate is all todos over the time from the first start to the last
end, by the run's own events. Beside it the same for as many no-op tasks of plain Celery: coord's settings
(acks late, task events on), as many queues, a pool of as many threads, kombu's own transport, all published
before. Rounds take turns, all on one embedded server (append-only file, everysec); the median of the ratios
counts, each to the plain round before it. Todos are `noop` actions: what is left is what coord adds to a
message. A second row has Celery's tasks over coord's transport, which asks Redis less often than kombu's.

The peers get the same graph, from extra `bench`, each in an environment and a process of its own and with a
time limit: benchmarks/peers/. One that cannot be installed or does not finish is shown with the reason, and
tried again ten times smaller. Their rates are to the median of plain Celery in this run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.of_throughput import plain
from benchmarks.of_throughput.layered import layered
from benchmarks.report import Report, parser, report
from benchmarks.testbed import PLAN
from benchmarks.workshop import Workshop, ecosystem, workshop
from coordination.models import Strategy
from coordination.planner.graph import build

GOAL = 0.7
SHORT = {"levels": 3, "todos": 60, "repos": 4, "rounds": 1, "no_peers": True}
LIMIT_S = 300.0


def todos(levels: int, width: int, repos: Sequence[str]) -> list[Mapping[str, Any]]:
    graph = layered(levels, width)
    return [
        {"id": name, "repo": repos[i % len(repos)], "blocked_by": before, "action": {"type": "noop"}}
        for i, (name, before) in enumerate(graph.items())
    ]


def coord_rate(shop: Workshop, plan: Sequence[Mapping[str, Any]], strategy: Strategy, jobs: int) -> float:
    """Todos per second. The worker is a new process, as that of plain Celery is."""
    declared = ecosystem(plan)
    run_id = shop.start(declared, build(declared, PLAN), strategy)
    with shop.worker(jobs, awaited=False):
        times = shop.finished(run_id, LIMIT_S)
    assert len(times.succeeded) == len(plan)
    return len(plan) / times.seconds


def rounds(
    shop: Workshop, plan: Sequence[Mapping[str, Any]], options: argparse.Namespace
) -> Iterator[dict[str, float]]:
    for i in range(options.rounds):
        bare, ours = (
            plain.rate(shop.url, f"{way}-{i}", len(plan), shop.repos, options.jobs, LIMIT_S, way)
            for way in ("stock", "coord")
        )
        yield {
            "plain": bare,
            "plain by coord's transport": ours,
            **{
                str(way): coord_rate(shop, plan, way, options.jobs)
                for way in (Strategy.DATAFLOW, Strategy.LEVELS)
            },
        }


def measure(rows: Report, options: argparse.Namespace) -> float:
    """Returns the rate of plain Celery."""
    names = [f"repo-{i}" for i in range(options.repos)]
    plan = todos(options.levels, options.todos // options.levels, names)
    found: dict[str, list[float]] = {
        "plain": [],
        "plain by coord's transport": [],
        "dataflow": [],
        "levels": [],
    }
    with workshop(names) as shop:
        for i, rates in enumerate(rounds(shop, plan, options)):
            for system, rate in rates.items():
                found[system].append(rate)
            rows.say(
                f"  round {i + 1}: " + ", ".join(f"{system} {rate:,.0f}/s" for system, rate in rates.items())
            )
    for way, goal in (("dataflow", GOAL), ("levels", None)):
        ratio = median(ours / bare for ours, bare in zip(found[way], found["plain"], strict=True))
        rows.add(
            f"{way}, of plain Celery's rate",
            ratio,
            "x",
            at_least=goal,
            beside=f"{median(found[way]):,.0f} todos/s",
        )
    beside = median(found["dataflow"]) / median(found["plain by coord's transport"])
    rows.add("plain Celery", median(found["plain"]), "tasks/s")
    rows.add(
        "  over coord's transport",
        median(found["plain by coord's transport"]),
        "tasks/s",
        beside=f"dataflow {beside:.2f} x",
    )
    return median(found["plain"])


def main(options: argparse.Namespace) -> None:
    with report("throughput", options) as rows:
        rows.say(
            f"{options.levels} levels, {options.todos:,} todos, {options.repos} repositories, "
            f"{options.jobs} threads"
        )
        bare = measure(rows, options)
        if not options.no_peers:
            from benchmarks.peers.all import compare

            compare(rows, bare, options.levels, options.todos // options.levels, options.peer_limit)


if __name__ == "__main__":
    asked = parser(__doc__, "throughput")
    asked.add_argument("--levels", type=int, default=10, metavar="N")
    asked.add_argument("--todos", type=int, default=10_000, metavar="N", help="of all levels")
    asked.add_argument("--repos", type=int, default=20, metavar="N")
    asked.add_argument("--jobs", type=int, default=2, metavar="N", help="threads of the worker")
    asked.add_argument("--rounds", type=int, default=3, metavar="N")
    asked.add_argument("--no-peers", action="store_true")
    asked.add_argument(
        "--peer-limit", type=float, default=120, metavar="SECONDS", help="for each try of a peer"
    )
    options = asked.parse_args()
    if options.short:
        vars(options).update(SHORT)
    main(options)
