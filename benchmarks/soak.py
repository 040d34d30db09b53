"""Looks for violated guarantees for as long as you like: `python -m benchmarks.soak [--minutes 10] [--seed
N]`, or `make soak`.

Processes at work on one server of their own are killed, stopped for longer than their ttls and cut off, and
the server is restarted with and without its data, several times a second. `wrong` must be empty; the exit
code says so. tests/chaos has a minute of it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.soaking.frame import Scenario, Soaked, soak
from benchmarks.soaking.of_locks import Locks
from benchmarks.soaking.of_messages import Messages

CONTENDERS = 12
SENDERS, READERS = 2, 4


def scenarios() -> list[Scenario]:
    return [Locks(CONTENDERS), Messages(SENDERS, READERS)]


def show(soaked: Soaked) -> None:
    for words, n in sorted(soaked.fate.items()):
        print(f"fate: {words.replace('_', ' '):<40} {n:,}")
    for words, figure in soaked.figures.items():
        print(f"{words:<46} {figure}")
    print(f"wrong: {len(soaked.wrong)}", *soaked.wrong, sep="\n  ")


def main(minutes: float, seed: int) -> int:
    print(f"{minutes:g} minutes, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="coord-soak-") as folder:
        soaked = soak(Path(folder), scenarios(), 60 * minutes, seed)
    show(soaked)
    return 1 if soaked.wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, metavar="N")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), metavar="N", help="of what fate does"
    )
    words = parser.parse_args()
    sys.exit(main(words.minutes, words.seed))
