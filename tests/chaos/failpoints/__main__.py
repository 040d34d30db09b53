"""`python -m tests.chaos.failpoints [--seed N] [--only REGEX] [--short] [--list]`."""

from __future__ import annotations

import argparse
import sys

from tests.chaos.failpoints import points, sweep

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.failpoints", description=sweep.__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", default="", metavar="REGEX", help="such POINT=FAULT")
    parser.add_argument(
        "--list", action="store_true", help="only say which calls there are, and which the sweep leaves out"
    )
    parser.add_argument("--short", action="store_true", help="a handful of points, in some seconds")
    words = parser.parse_args()
    if words.list:
        for name in sorted(points.names()):
            print(name, f"({points.elsewhere(name)})" if points.elsewhere(name) else "")
        sys.exit(0)

    def say(line: str) -> None:
        print(line, flush=True)

    found = (
        sweep.short(words.seed, say) if words.short else sweep.main(seed=words.seed, only=words.only, say=say)
    )
    print(found.measured)
    for line in found.wrong:
        print(f"  {line}")
    sys.exit(1 if found.wrong else 0)
