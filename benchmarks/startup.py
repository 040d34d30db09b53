"""Measures start-up times: `python -m benchmarks.startup [--rounds N] [--starts N] [--json [FILE]]`.

    python -m benchmarks.startup --short    # seconds, to see that it runs

Each command is a process of its own. In each of N rounds every command is called once; its median counts,
less that of a bare interpreter (`python -c pass`) in the same rounds. All read a file with the 97 packages of
benchmarks/jupyter.py and ask a server that runs and has a run of one todo.

`a worker`: from the start of its process until it consumes. `coord sweep, cold`: nothing runs, no server, no
worker; from the call until the command of the first todo has begun, by the time of a file that it makes. Best
and median of N starts; beside them how many times `python -c "import celery.worker"` that is, which any
worker has to do.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from functools import partial
from statistics import median

from benchmarks import jupyter
from benchmarks.clock import best, seconds
from benchmarks.report import Report, parser, report
from benchmarks.testbed import COORD, PLAN, Testbed, testbed
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings

SHORT = {"rounds": 1, "starts": 1}
READY_S, COLD_S = 1.5, 1.0
REPO, READY = "api", "serving "
BARE = "python -c pass"
GOALS_MS = {
    "--version": 60,
    "--help": 120,
    "list-todos": 120,
    "list-issues": 120,
    "status": 120,
    "list-runs": 200,
    "show-run last": 200,
}


def measure_commands(rows: Report, rounds: int) -> None:
    requires = jupyter.read()
    commands = {BARE: [sys.executable, "-c", "pass"]}
    commands |= {f"coord {words}": [str(COORD), *words.split()] for words in GOALS_MS}
    took: dict[str, list[float]] = {name: [] for name in commands}
    with testbed() as place:
        place.plant([next(iter(requires))])
        jupyter.declare(place, requires, jupyter.draw(requires, jupyter.SEED))
        place.coord("up", "--detach", "--no-flower")
        place.coord("exec", "--repo", next(iter(requires)), "--", "true")
        for argv in commands.values():
            place.run(argv)  # writes the byte code, and the cache of the file
        for _ in range(rounds):
            for name, argv in commands.items():
                took[name].append(seconds(partial(place.run, argv)))
    bare = median(took[BARE])
    rows.add(BARE, 1000 * bare, "ms")
    for words, goal in GOALS_MS.items():
        whole = median(took[f"coord {words}"])
        beside = f"{whole / bare:.1f} times a bare interpreter"
        rows.add(f"coord {words}, over python", 1000 * (whole - bare), "ms", at_most=goal, beside=beside)


def worker_ready_s(place: Testbed) -> float:
    """With a server that runs; the worker is ended again."""
    server = EmbeddedServer(place.state, Settings())
    command = [sys.executable, "-P", "-m", "workers", "--all", "--redis", server.start()]
    try:
        begin = time.perf_counter()
        worker = subprocess.Popen(command, cwd=place.folder, stderr=subprocess.PIPE, text=True)
        assert worker.stderr is not None
        said: list[str] = []
        ready = False
        for line in iter(worker.stderr.readline, ""):
            said.append(line)
            if ready := READY in line:
                break
        took = time.perf_counter() - begin
        worker.send_signal(signal.SIGTERM)
        worker.communicate()
    finally:
        server.stop()
    if not ready:
        raise SystemExit("".join(said))
    return took


def first_todo_s(place: Testbed) -> float:
    """Nothing runs before, and nothing after."""
    mark = place.folder / "begun"
    mark.unlink(missing_ok=True)
    place.declare([REPO], [{"id": "TODO-001", "task": "begin", "repo": REPO, "action": f": > {mark}"}])
    begin = time.time()
    place.coord("sweep", PLAN)
    return mark.stat().st_mtime - begin


def measure_starts(rows: Report, starts: int) -> None:
    with testbed() as place:
        place.plant([REPO])
        place.declare([REPO], [])
        floor = best(
            lambda: place.run([sys.executable, "-c", "import celery.worker, celery.apps.worker"]),
            max(3, starts),
        )
        rows.add('python -c "import celery.worker"', 1000 * floor, "ms")
        for name, goal, start in (
            ("a worker", READY_S, worker_ready_s),
            ("coord sweep, cold", COLD_S, first_todo_s),
        ):
            took = [start(place) for _ in range(starts)]
            rows.add(
                f"{name}, best", min(took), "s", beside=f"{min(took) / floor:.1f} times the import of Celery"
            )
            rows.add(f"{name}, median", median(took), "s", at_most=goal, beside=f"of {starts}")


def main(options: argparse.Namespace) -> None:
    with report("startup", options) as rows:
        measure_commands(rows, options.rounds)
        measure_starts(rows, options.starts)


if __name__ == "__main__":
    asked = parser(__doc__, "startup")
    asked.add_argument("--rounds", type=int, default=15, metavar="N", help="of each command")
    asked.add_argument("--starts", type=int, default=9, metavar="N", help="of a worker, and of a sweep")
    given = asked.parse_args()
    if given.short:
        vars(given).update(SHORT)
    main(given)
