"""A real dependency graph under both strategies: `python -m benchmarks.jupyter [--jobs N] [--scale X]`.

The graph is that of the 97 packages that `pip install jupyter` brings: one git repository each, one todo
each, after the todos of what the package requires. A todo is `sleep` for a time drawn once from a lognormal
(median 0.8 s, sigma 1, a fixed seed), in a worktree of its own, like any todo; its estimate is that time.
`coord sweep` runs the plan with the embedded server and one worker. `--jobs` is coord's: at most N todos at
once; without it each repository has its slot, and the worker a thread for each. `--scale` stretches all
durations: the longer todos are, the less coord's share.

How to read it. `bound` is what no schedule can beat by the times drawn, coord's work left out: the longest
path, or the work over the slots. `forecast` is what `coord plan forecast` said before. `measured` is from the
run's start to its end, and `ratio` is that to the bound. `bound_s` is coord's own: the same bound by the
times measured, coord's share of each todo included; what is above that is waiting. The draw decides what
levels cost: of the seeds 1 to 101 the one in the middle was taken, by simulation (levels 1.59 times the
bound). The last line says it for other draws.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.testbed import PLAN, Testbed, testbed
from coordination.planner.schedule import bound, simulate, slots_for

DATA = Path(__file__).with_name("data") / "jupyter.json"
MEDIAN_S, SIGMA, SEED = 0.8, 1.0, 49
OTHER_DRAWS = 100

Requires = Mapping[str, list[str]]


def read() -> Requires:
    """Package → the packages it requires; every one stands after its own requirements."""
    packages = {p["name"]: p["requires"] for p in json.loads(DATA.read_text())["packages"]}
    return {name: packages[name] for level in levels(packages) for name in level}


def levels(requires: Requires) -> list[list[str]]:
    found: list[list[str]] = []
    left = dict(requires)
    while left:
        found.append([name for name, before in left.items() if not left.keys() & set(before)])
        for name in found[-1]:
            del left[name]
    return found


def draw(requires: Requires, seed: int, scale: float = 1.0) -> dict[str, float]:
    """Seconds for each package, in whole milliseconds."""
    dice = random.Random(seed)
    return {name: round(scale * MEDIAN_S * dice.lognormvariate(0, SIGMA), 3) for name in requires}


def declare(place: Testbed, requires: Requires, durations: Mapping[str, float]) -> None:
    todos = [
        {
            "id": f"build-{name}",
            "task": f"Build {name}",
            "repo": name,
            "estimated_hours": durations[name] / 3600,
            "blocked_by": [f"build-{other}" for other in before],
            "action": f"sleep {durations[name]}",
        }
        for name, before in requires.items()
    ]
    place.declare(list(requires), todos)


def main(jobs: int | None, scale: float) -> None:
    requires = read()
    durations = draw(requires, SEED, scale)
    slots = slots_for(requires.keys(), jobs)
    least = bound(durations, requires, {name: name for name in requires}, slots)
    at_most = ("--jobs", str(jobs)) if jobs else ()
    edges = sum(map(len, requires.values()))
    print(f"{len(requires)} packages, {edges} dependencies, {len(levels(requires))} levels; {slots} at once")
    print(
        f"{sum(durations.values()):.1f} s of work, longest todo {max(durations.values()):.1f} s, "
        f"bound {least:.1f} s"
    )
    print("strategy   forecast   measured   ratio to bound   bound_s")
    with testbed() as place:
        place.plant(list(requires))
        for strategy in ("levels", "dataflow"):
            declare(place, requires, durations)  # anew: a sweep writes back what it completed
            foreseen = place.ask("plan", "forecast", PLAN, *at_most)[f"{strategy}_h"] * 3600
            run = place.ask("sweep", PLAN, "--strategy", strategy, *at_most)
            print(row(strategy, foreseen, run, least), flush=True)
    print(
        f"over {OTHER_DRAWS} other draws, levels would take {elsewhere(requires, slots)} the "
        "bound (simulated)"
    )


def row(strategy: str, foreseen: float, run: Mapping[str, Any], least: float) -> str:
    took = run["duration_s"]
    return f"{strategy:<9} {foreseen:8.1f} s {took:8.1f} s {took / least:16.2f} {run['bound_s']:7.1f} s"


def elsewhere(requires: Requires, slots: int) -> str:
    """How many times the bound the levels take, for other draws: the median and the tenths at both ends."""
    repo_of = {name: name for name in requires}
    ratios = []
    for seed in range(SEED + 1, SEED + 1 + OTHER_DRAWS):
        durations = draw(requires, seed)
        by_levels = simulate(durations, {}, repo_of, slots=slots, levels=levels(requires)).makespan
        ratios.append(by_levels / bound(durations, requires, repo_of, slots))
    tenths = statistics.quantiles(ratios, n=10)
    return f"{statistics.median(ratios):.2f} times ({tenths[0]:.2f} to {tenths[-1]:.2f} in 8 of 10)"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.jupyter", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="at most N todos at once (default: one for each repository)"
    )
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="all durations times X")
    arguments = parser.parse_args()
    main(arguments.jobs, arguments.scale)
