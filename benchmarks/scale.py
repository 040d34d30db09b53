"""Checks that the cost of a todo does not depend on the size of its plan: `python -m benchmarks.scale
[--sizes N …] [--finished N] [--json [FILE]]`.

    python -m benchmarks.scale --short    # seconds, to see that it runs

Plans of each size on 500 repositories, each todo after up to three others elsewhere, on the embedded server
(append-only file, everysec):

* the steps alone, one client: what submission takes, then claim and settle of every todo; Redis' memory from
  before the
submission to the run's end, over the todos; and the longest single call of the run, for which all others
waited, by the server's own log, also where all of a run ends by one decision (cancelled; the first todo
failed, and halts it), and of what goes through all of it in one call still: the question whether a run in
which nothing happens is stuck, and the survey before it is rolled back. The smallest plan is carried out
again and again, before and after the others; its median counts.
* a real worker with two threads: the time of a run of no-op todos, from the first start to the last end.
* `coord sweep` that watches the largest plan, and its worker: resident memory in the last tenth of the run to
  that in the first.
* all that beside many runs that have ended (real ones, of two todos each) to the same before.
"""

from __future__ import annotations

import argparse
from statistics import median

from benchmarks.of_scale.history import finish, looks
from benchmarks.of_scale.plans import repos, todos
from benchmarks.of_scale.steps import Cost, Steps
from benchmarks.of_scale.watched import watched
from benchmarks.report import Report, parser, report
from benchmarks.testbed import testbed
from benchmarks.workshop import SETTINGS, Workshop, workshop
from coordination.backend.client import Profile, connect
from coordination.models import Strategy
from coordination.runs.store import RunStore

SIZES = (1_000, 10_000, 50_000)
SHORT = {"sizes": [100, 400], "finished": 100, "again": 1}
JOBS = 2
LIMIT_S = 1800.0
LISTED = 50
"""Runs that `list-runs` shows: so many are there before."""
SUBMIT_MS, GROWTH, BYTES, BLOCK_MS, FLAT, BESIDE = 0.3, 1.2, 3072, 50.0, 1.05, 1.15


def by_steps(rows: Report, store: RunStore, sizes: list[int], again: int) -> None:
    smallest = Steps(store, sizes[0])
    small = [smallest.carry_out() for _ in range(again)]
    found: dict[int, Cost] = {}
    for n in sizes[1:]:
        steps = Steps(store, n)
        found[n] = steps.carry_out()
        of_size(rows, n, found[n])
        at_once(rows, steps)
    small += [smallest.carry_out() for _ in range(again)]
    base = median(cost.steps_ms for cost in small)
    of_size(rows, sizes[0], middle(small))
    for n, cost in found.items():
        rows.add(f"claim and settle, {n:,} to {sizes[0]:,}", cost.steps_ms / base, "x", at_most=GROWTH)


def middle(costs: list[Cost]) -> Cost:
    return Cost(
        submit_ms=median(cost.submit_ms for cost in costs),
        steps_ms=median(cost.steps_ms for cost in costs),
        memory_bytes=median(cost.memory_bytes for cost in costs),
        longest=max(cost.longest for cost in costs),
    )


def of_size(rows: Report, n: int, cost: Cost) -> None:
    rows.add(f"submit, {n:,} todos", cost.submit_ms, "ms a todo", at_most=SUBMIT_MS)
    rows.add(f"claim and settle, {n:,} todos", cost.steps_ms, "ms a todo")
    rows.add(f"Redis' memory, {n:,} todos", cost.memory_bytes, "bytes a todo", at_most=BYTES)
    took, what = cost.longest
    rows.add(f"longest call, {n:,} todos", took, "ms", at_most=BLOCK_MS, beside=named(what))


def at_once(rows: Report, steps: Steps) -> None:
    for how, end in (("cancelled", steps.cancel), ("halted", steps.fail)):
        took, what = steps.ended_at_once(end)
        rows.add(f"longest call, {steps.n:,} todos {how}", took, "ms", at_most=BLOCK_MS, beside=named(what))
    for how, (took, what) in steps.surveyed():
        rows.add(f"longest call, {steps.n:,} todos {how}", took, "ms", beside=named(what))


def named(command: str) -> str:
    """A step by its name: the log has its digest."""
    from coordination.backend.library import function
    from coordination.backend.steps import STEPS

    names = {function(name): name for name in STEPS}
    words = command.split()
    return names.get(words[1], words[1]) if words[0] == "FCALL" else words[0]


def by_worker(rows: Report, shop: Workshop, sizes: list[int], again: int) -> None:
    def ms(n: int) -> float:
        run_id = shop.submit(todos(n, repos()), Strategy.DATAFLOW)
        return 1000 * shop.finished(run_id, LIMIT_S).seconds / n

    with shop.worker(JOBS):
        small = [ms(sizes[0]) for _ in range(again)]
        found = {n: ms(n) for n in sizes[1:]}
        small += [ms(sizes[0]) for _ in range(again)]
    base = median(small)
    rows.add(f"a worker, {sizes[0]:,} todos", base, "ms a todo")
    for n, took in found.items():
        rows.add(
            f"a worker, {n:,} to {sizes[0]:,}",
            took / base,
            "x",
            at_most=GROWTH,
            beside=f"{took:.2f} ms a todo",
        )


def memory(rows: Report, n: int) -> None:
    with testbed() as place:
        for what, found in zip(("coord sweep", "its worker"), watched(place, n, JOBS), strict=True):
            rows.add(f"memory of {what}, {n:,} todos", found.growth, "x", at_most=FLAT, beside=str(found))


def beside_history(rows: Report, store: RunStore, url: str, n: int, runs: int) -> None:
    work = Steps(store, n)
    finish(store, LISTED)
    before = looks(store, url, work)
    finish(store, runs)
    after = looks(store, url, work)
    for what, took in after.items():
        beside = f"{before[what]:.3f} to {took:.3f} ms"
        rows.add(
            f"{what}, beside {runs:,} ended runs", took / before[what], "x", at_most=BESIDE, beside=beside
        )


def main(options: argparse.Namespace) -> None:
    sizes = sorted(options.sizes)
    with report("scale", options) as rows:
        with workshop(repos()) as shop, connect(shop.url, Profile.WORKER) as client:
            store = RunStore(client, SETTINGS.namespace)
            by_steps(rows, store, sizes, options.again)
            client.flushall()
            by_worker(rows, shop, sizes, options.again)
            client.flushall()
            beside_history(rows, store, shop.url, sizes[0], options.finished)
        memory(rows, sizes[-1])


if __name__ == "__main__":
    asked = parser(__doc__, "scale")
    asked.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), metavar="N", help="of the plans, in todos"
    )
    asked.add_argument("--finished", type=int, default=10_000, metavar="N", help="runs that have ended")
    asked.add_argument(
        "--again", type=int, default=5, metavar="N", help="so often the smallest, before and after the others"
    )
    given = asked.parse_args()
    if given.short:
        vars(given).update(SHORT)
    main(given)
