"""How soon a todo starts once the one before it has settled: `python -m benchmarks.latency [--rate 100]
[--seconds 30] [--json [FILE]]`.

One run of pairs of todos that do nothing, in different repositories; a real worker with two threads carries
them out. Each pair waits for a manual todo, which is completed on time by this process (`coord
complete-todo`'s own step): so many of them a second that the worker has RATE todos to carry out in each,
whether or not it keeps up. What could not be kept of that is shown.

Latency is from `todo.succeeded` of the predecessor to `todo.running` of its successor, by Redis' own clock,
in whole milliseconds: half of them are predecessors that this process settled, half such that the worker did
while others were waiting for it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.report import Report, parser, report
from benchmarks.workshop import Times, Workshop, workshop
from coordination.models import Strategy

P50_MS, P99_MS = 10, 50
KEPT = 0.95
PER_PAIR = 2
SHORT = {"seconds": 1.0}
LIMIT_S = 120.0
NOOP = {"type": "noop"}


def pairs(n: int, repos: Sequence[str]) -> Iterator[dict[str, Any]]:
    """`go` is a person's; the second of a pair stands far from the first, so that none waits for another
    pair's repository.
    """
    for i in range(n):
        here, there = repos[i % len(repos)], repos[(i + len(repos) // 2) % len(repos)]
        yield {"id": f"go-{i}", "repo": here, "action": {"type": "manual"}}
        yield {"id": f"first-{i}", "repo": here, "blocked_by": [f"go-{i}"], "action": NOOP}
        yield {"id": f"second-{i}", "repo": there, "blocked_by": [f"first-{i}"], "action": NOOP}


def let_go(shop: Workshop, run_id: str, n: int, every_s: float) -> float:
    """Completes them on time, none waiting for what came of another; returns by how much the latest
    was late.
    """
    latest, begin = 0.0, time.perf_counter()
    for i in range(n):
        due = begin + i * every_s
        time.sleep(max(0.0, due - time.perf_counter()))
        latest = max(latest, time.perf_counter() - due)
        shop.connection.dispatcher.follow(shop.connection.store.complete(run_id, f"go-{i}", "benchmark"))
    return latest


def latencies(times: Times, n: int) -> tuple[list[int], list[int]]:
    """In ms, sorted: of predecessors settled here, and of those settled by the worker."""
    by_us = [times.started[f"first-{i}"] - times.succeeded[f"go-{i}"] for i in range(n)]
    by_worker = [times.started[f"second-{i}"] - times.succeeded[f"first-{i}"] for i in range(n)]
    return sorted(by_us), sorted(by_worker)


def percentile(ranked: Sequence[int], percent: int) -> int:
    return ranked[min(len(ranked) - 1, len(ranked) * percent // 100)]


def measure(rows: Report, rate: float, seconds: float, repos: int, jobs: int) -> None:
    names = [f"repo-{i}" for i in range(repos)]
    n = max(1, int(rate * seconds / PER_PAIR))
    with workshop(names) as shop, shop.worker(jobs):
        warm = shop.submit([{"id": "warm", "repo": names[0], "action": NOOP}], Strategy.DATAFLOW)
        shop.finished(warm, LIMIT_S)
        run_id = shop.submit(list(pairs(n, names)), Strategy.DATAFLOW)
        latest = let_go(shop, run_id, n, PER_PAIR / rate)
        times = shop.finished(run_id, LIMIT_S)
    by_us, by_worker = latencies(times, n)
    every = sorted(by_us + by_worker)
    kept = PER_PAIR * n / times.seconds
    rows.add(
        "todos a second that were carried out",
        kept,
        at_least=round(KEPT * rate, 1),
        beside=f"asked for {rate:g}",
    )
    rows.add(f"settle to start, {len(every):,} todos: p50", percentile(every, 50), "ms", at_most=P50_MS)
    rows.add("  p99", percentile(every, 99), "ms", at_most=P99_MS, beside=f"most {every[-1]} ms")
    for words, some in (("settled by a command", by_us), ("settled by the worker", by_worker)):
        rows.add(
            f"  {words}: p50",
            percentile(some, 50),
            "ms",
            beside=f"p99 {percentile(some, 99)} ms, most {some[-1]} ms",
        )
    rows.add("the latest settle was late by", 1000 * latest, "ms", beside="in this process, not in coord")


def main(options: argparse.Namespace) -> None:
    with report("latency", options) as rows:
        rows.say(
            f"{options.rate:g} todos/s for {options.seconds:g} s, {options.repos} repositories, "
            f"{options.jobs} threads"
        )
        measure(rows, options.rate, options.seconds, options.repos, options.jobs)


if __name__ == "__main__":
    asked = parser(__doc__, "latency")
    asked.add_argument("--rate", type=float, default=100, metavar="N", help="todos a second for the worker")
    asked.add_argument("--seconds", type=float, default=30, metavar="S")
    asked.add_argument("--repos", type=int, default=20, metavar="N")
    asked.add_argument("--jobs", type=int, default=2, metavar="N", help="threads of the worker")
    options = asked.parse_args()
    if options.short:
        vars(options).update(SHORT)
    main(options)
