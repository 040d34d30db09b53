"""What a call of `coord` costs before it does anything: `python -m benchmarks.startup [--rounds N]`.

Each command is a process of its own; the best of N rounds counts. `over python` is what it takes beyond a bare
interpreter (`python -c pass`) in the same run, `ratio` how many times that interpreter. `list-todos` reads a file with the
97 packages of benchmarks/jupyter.py; `list-runs` asks a server that is already running, the other two need none.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks import jupyter
from benchmarks.clock import best
from benchmarks.ground import ground


def main(rounds: int) -> None:
    requires = jupyter.read()
    with ground() as place:
        jupyter.declare(place, requires, jupyter.draw(requires, jupyter.SEED))
        place.coord("up", "--detach", "--no-flower")
        bare = best(lambda: place.run([sys.executable, "-c", "pass"]), rounds)
        print(f"best of {rounds}         takes   over python   ratio")
        print(f"{'python -c pass':<18} {1000 * bare:5.0f} ms")
        for command in ("--help", "list-todos", "list-runs"):
            took = best(lambda command=command: place.coord(command), rounds)  # type: ignore[misc]
            print(f"{'coord ' + command:<18} {1000 * took:5.0f} ms {1000 * (took - bare):10.0f} ms {took / bare:7.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    main(parser.parse_args().rounds)
