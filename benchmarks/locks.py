"""How fast, fair and safe locks are: `python -m benchmarks.locks [--seconds 20] [--only PART]`.

Beside `redis.lock.Lock` on the same embedded server, in one run:

* A lock that nobody else wants: acquired and released, round by round in turns with redis-py.
* 8 processes that want one lock all the time and hold it for 10 ms; the goals are about these. Then for 2 ms,
  to see what a
hand-over costs where it weighs most. redis-py with its defaults. A hand-over is the time from when a holder
begins to release to when the next is inside. The fair share is contenders x (hold + median hand-over);
throughput is the part of the time that the lock was held. Holders count themselves
(benchmarks/of_locks/contest.py). The last row is what the machine itself takes just then.
* The same with four of a higher priority beside one of the common one: a step of priority weighs as much as 5
  s of waiting.
* 1,000 circles of 2 to 10 threads that wait for each other, and 10,000 graphs without a circle.
* 200 holders that are stopped for twice their ttl of 200 ms while they write, and write on when they wake.

Each row ends with its goal and whether it was met. The machine should have nothing else to do: times are of 2
cores.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.of_locks.circles import LONGEST_S, circles, judged, judged_on_server
from benchmarks.of_locks.contest import SYSTEMS, Figures, contest
from benchmarks.of_locks.floor import floor
from benchmarks.of_locks.frozen import frozen
from benchmarks.of_locks.uncontended import uncontended
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings

CONTENDERS = 8
HOLD_MS, SHORT_MS = 10, 2
FLOOD = (1, 1, 1, 1, 0)
STEP_S = 5
CIRCLES, GRAPHS, GRAPHS_ON_SERVER, TRIALS = 1000, 10_000, 500, 200


def show(what: str, figures: Sequence[str], goal: str = "", met: bool | None = None) -> None:
    verdict = {None: "", True: "met", False: "NOT MET"}[met]
    print(
        f"{what:<44} "
        + " ".join(f"{figure:>12}" for figure in figures)
        + f"   {goal:<16} {verdict}".rstrip(),
        flush=True,
    )


def alone(url: str) -> None:
    took, ratio, cpu = uncontended(url)
    show("acquire and release, ms", [f"{1000 * took[system]:.3f}" for system in SYSTEMS])
    show("  CPU of client and server, ms", [f"{1000 * cpu[system]:.3f}" for system in SYSTEMS])
    show("  as fast as redis-py", [f"{ratio:.2f} x"], ">= 1", ratio >= 1)


def contended(url: str, hold_ms: int, seconds: float, *, judge: bool) -> None:
    both = [
        contest(url, system, priorities=[0] * CONTENDERS, hold_s=hold_ms / 1000, seconds=seconds)
        for system in SYSTEMS
    ]
    ours, bare_s = both[0], sorted(floor(url))
    shares = [max(f.longest_waits_s) / f.fair_share_s for f in both]
    rows = (
        ("peak of concurrent holders", [str(f.peak) for f in both], "1", ours.peak == 1),
        ("Jain's index of the grants", [f"{f.jain:.4f}" for f in both], ">= 0.99", ours.jain >= 0.99),
        ("longest wait, in fair shares", [f"{share:.2f}" for share in shares], "<= 1.2", shares[0] <= 1.2),
        ("hand-over p99, ms", [_ms(f, 99) for f in both], "<= 5", ours.hand_over(99) <= 0.005),
        ("throughput of the ideal", [f"{f.throughput:.1%}" for f in both], ">= 90 %", ours.throughput >= 0.9),
    )
    print(f"\n{CONTENDERS} contenders, {seconds:g} s, each holds it for {hold_ms} ms")
    show("grants", [f"{sum(f.grants):,}" for f in both])
    for what, figures, goal, met in rows:
        show(what, figures, *(goal, met) if judge else ())
    show("longest wait, ms", [f"{1000 * max(f.longest_waits_s):.1f}" for f in both])
    show("hand-over p50, ms", [_ms(f, 50) for f in both])
    show(
        "bare RPUSH to BLPOP just then: p50, p99, ms",
        [f"{1000 * bare_s[len(bare_s) * p // 100]:.2f}" for p in (50, 99)],
    )


def _ms(figures: Figures, percent: int) -> str:
    return f"{1000 * figures.hand_over(percent):.2f}"


def flooded(url: str, seconds: float) -> None:
    found = contest(url, "coord", priorities=FLOOD, hold_s=0.01, seconds=seconds)
    print(f"\n{len(FLOOD) - 1} of priority 1 and one of priority 0, {seconds:g} s, 10 ms each")
    show("grants of each", [", ".join(map(str, found.grants))])
    longest = found.longest_waits_s[-1]
    bound = STEP_S + 1.2 * found.fair_share_s
    show("longest wait of the common one, s", [f"{longest:.2f}"], f"<= {bound:.2f}", longest <= bound)


def deadlocked(url: str) -> None:
    found = circles(url, CIRCLES)
    took = [circle.took_s for circle in found]
    print(f"\n{len(found):,} circles of 2 to 10 that wait for each other")
    one = sum(circle.victims == 1 and not circle.in_vain for circle in found)
    show("resolved with one victim", [f"{one:,}"], f"{CIRCLES:,}", one == CIRCLES)
    show("time after the last edge, median, s", [f"{median(took):.2f}"])
    show(
        "time after the last edge, longest, s",
        [f"{max(took):.2f}"],
        f"<= {LONGEST_S}",
        max(took) <= LONGEST_S,
    )
    alarms, circles_found = judged(GRAPHS, CIRCLES)
    show(f"false alarms in {GRAPHS:,} graphs without one", [str(alarms)], "0", alarms == 0)
    show(
        f"found in {CIRCLES:,} graphs with one",
        [f"{circles_found:,}"],
        f"{CIRCLES:,}",
        circles_found == CIRCLES,
    )
    looks, alarms = judged_on_server(url, GRAPHS_ON_SERVER)
    show(f"false alarms in {looks:,} looks at Redis", [str(alarms)], "0", alarms == 0)


def stopped(url: str) -> None:
    found = frozen(url, TRIALS)
    print(f"\n{len(found)} holders stopped for 400 ms, ttl 200 ms")
    stale = sum(trial.stale_accepted for trial in found)
    show("stale writes accepted", [str(stale)], "0", stale == 0)
    for what in ("refused", "told", "release_refused", "next_one_kept_it"):
        times = sum(getattr(trial, what) for trial in found)
        show(what.replace("_", " "), [str(times)], str(TRIALS), times == TRIALS)


PARTS: dict[str, Callable[[str, float], None]] = {
    "alone": lambda url, _: alone(url),
    "contended": lambda url, seconds: contended(url, HOLD_MS, seconds, judge=True),
    "short": lambda url, seconds: contended(url, SHORT_MS, seconds, judge=False),
    "flooded": flooded,
    "deadlocked": lambda url, _: deadlocked(url),
    "stopped": lambda url, _: stopped(url),
}


def main(seconds: float, parts: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        server = EmbeddedServer(Path(folder) / ".coord", Settings())
        url = server.start()
        try:
            show("", list(SYSTEMS))
            for part in parts:
                PARTS[part](url, seconds)
        finally:
            server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.locks", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=20, metavar="S", help="of each contest")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of it; may be given again")
    words = parser.parse_args()
    main(words.seconds, words.only or list(PARTS))
