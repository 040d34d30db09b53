"""Measures what a sandbox costs a todo: `python -m benchmarks.sandbox`.

An attempt runs in its worktree, once without a sandbox and once in one, by turns, so that both meet the same
load. The price is the difference of the fastest of each; the ratio is that of the medians. Processor time is
that of the attempt and all of its processes, and the same on a busy machine.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.clock import seconds
from benchmarks.report import Report, parser, report
from coordination.sandbox import probe
from tests.attempts import Bench
from workers.outcome import OutcomeKind

ACTIONS = {"changes nothing": "true", "changes a file": "date +%N > code"}
ROUNDS, SHORT_ROUNDS = 60, 5


def processor_ms() -> float:
    found = os.times()
    return 1000 * (found.user + found.system + found.children_user + found.children_system)


def measure(rows: Report, rounds: int) -> None:
    probed = probe()
    if not probed.works:
        rows.add("a todo in a sandbox", None, "ms", at_most=20, beside=probed.why_not)
        return
    for name, action in ACTIONS.items():
        with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
            bench = Bench(Path(folder))
            bench.make_repository()
            taken: dict[str, list[float]] = {"off": [], "bubblewrap": []}
            used: dict[str, list[float]] = {"off": [], "bubblewrap": []}

            def attempt(kind: str, bench: Bench = bench, action: str = action) -> None:
                if bench.attempt(action, sandbox=kind).kind is not OutcomeKind.SUCCEEDED:
                    raise AssertionError(bench.log)

            for kind in taken:
                attempt(kind)
            for _ in range(rounds):
                for kind, times in taken.items():
                    before = processor_ms()
                    times.append(1000 * seconds(lambda kind=kind: attempt(kind)))  # type: ignore[misc]
                    used[kind].append(processor_ms() - before)
        off, bound = taken["off"], taken["bubblewrap"]
        rows.add(f"{name}: without", min(off), "ms", beside=f"median {median(off):.1f}")
        rows.add(f"{name}: in bubblewrap", min(bound), "ms", beside=f"median {median(bound):.1f}")
        rows.add(f"{name}: price", min(bound) - min(off), "ms", at_most=20)
        price_ms = median(used["bubblewrap"]) - median(used["off"])
        rows.add(f"{name}: processor time of the price", price_ms, "ms", beside="difference of the medians")
        rows.add(f"{name}: ratio of the medians", median(bound) / median(off), "x")


if __name__ == "__main__":
    options = parser(__doc__, "sandbox").parse_args()
    with report("sandbox", options) as rows:
        measure(rows, SHORT_ROUNDS if options.short else ROUNDS)
