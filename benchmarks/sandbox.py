"""Measures what a sandbox costs a todo: `python -m benchmarks.sandbox`.

An attempt runs in a worktree, once without a sandbox and once in one, by turns, so that both meet the same
load. The price is the difference of the fastest of each; the ratio is that of the medians. Processor time is
that of the attempt and all of its processes, and the same on a busy machine.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.clock import seconds
from benchmarks.report import Report, parser, report
from coordination.sandbox import probe
from tests.attempts import Bench
from tests.testbed import git
from workers.outcome import OutcomeKind

ACTIONS = {
    "changes nothing": ("true", 0),
    "changes a file": ("date +%N > code", 0),
    "changes a file of 5,000": ("date +%N > code", 5000),
    "commits itself, 5,000 files": (
        "date +%N > code; git -c user.name=t -c user.email=t@x commit -qam x; date +%N > code", 5000,
    ),
}  # fmt: skip
"""Action and number of further files in its repository."""
ROUNDS, SHORT_ROUNDS = 60, 5


def processor_ms() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return 1000 * sum(one.ru_utime + one.ru_stime for one in used)  # os.times counts in steps of 10 ms


def measure(rows: Report, rounds: int) -> None:
    probed = probe()
    if not probed.works:
        rows.add("a todo in a sandbox", None, "ms", at_most=20, beside=probed.why_not)
        return
    for name, (action, files) in ACTIONS.items():
        with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
            benches = {kind: _bench(Path(folder, kind), files) for kind in ("off", "bubblewrap")}
            taken: dict[str, list[float]] = {kind: [] for kind in benches}
            used: dict[str, list[float]] = {kind: [] for kind in benches}

            def attempt(kind: str, benches: dict[str, Bench] = benches, action: str = action) -> None:
                if benches[kind].attempt(action, sandbox=kind).kind is not OutcomeKind.SUCCEEDED:
                    raise AssertionError(benches[kind].log)

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
        limit_ms = 60 if name.startswith("commits itself") else 25
        rows.add(f"{name}: price", min(bound) - min(off), "ms", at_most=limit_ms)
        price_ms = median(used["bubblewrap"]) - median(used["off"])
        rows.add(f"{name}: processor time of the price", price_ms, "ms", beside="difference of the medians")
        rows.add(f"{name}: ratio of the medians", median(bound) / median(off), "x")


def _bench(folder: Path, files: int) -> Bench:
    folder.mkdir()
    bench = Bench(folder)
    bench.make_repository()
    for number in range(files):
        file = bench.checkout / f"folder{number % 100}" / f"file{number}"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{number}\n")
    if files:
        git(bench.checkout, "add", ".")
        git(bench.checkout, "commit", "-q", "-m", "files")
    return bench


if __name__ == "__main__":
    options = parser(__doc__, "sandbox").parse_args()
    with report("sandbox", options) as rows:
        measure(rows, SHORT_ROUNDS if options.short else ROUNDS)
