"""`python -m tests.chaos.failpoints [--seed N] [--only PART-OF-A-POINT] [--list]`."""

from __future__ import annotations

import argparse
import sys

from tests.chaos.failpoints import points, sweep

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.failpoints", description=sweep.__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", default="", metavar="PART", help="points with this in their name")
    parser.add_argument(
        "--list", action="store_true", help="only say which calls there are, and which the sweep leaves out"
    )
    words = parser.parse_args()
    if words.list:
        for name in sorted(points.names()):
            print(name, f"({points.elsewhere(name)})" if points.elsewhere(name) else "")
        sys.exit(0)
    found = sweep.main(seed=words.seed, only=words.only, say=lambda line: print(line, flush=True))
    print(found.measured)
    for line in found.wrong:
        print(f"  {line}")
    sys.exit(1 if found.wrong else 0)
