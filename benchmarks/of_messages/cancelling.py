"""From `cancel` to the running command of a worker: the time until its process gets TERM."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.testbed import testbed
from coordination.api.coord import Coord

REPO, TODO = "api", "T"
COMMAND = """\
exec python3 -c '
import signal, sys, time
def told(*_):
    open(sys.argv[1] + ".told", "w").write(str(time.monotonic_ns()) + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
open(sys.argv[1] + ".here", "w").close()
while True: signal.pause()
' {path}
"""
PATIENCE_S = 60.0


def cancelling(trials: int) -> list[float]:
    """Seconds from before the step that cancels to the signal in the child, each trial a run of its own."""
    with testbed() as place:
        place.plant([REPO])
        found = []
        for number in range(trials):
            marks = place.folder / f"trial-{number}"
            command = COMMAND.format(path=marks)
            place.declare([REPO], [{"id": TODO, "task": "wait", "repo": REPO, "action": command}])
            if number == 0:
                place.coord("up", "--detach")
            with Coord(place.file) as coord:
                run = coord.runs.execute(TODO)
                _appear(marks.with_suffix(".here"))
                begin = time.monotonic_ns()
                run.cancel()
                found.append((int(_appear(marks.with_suffix(".told"), words=True)) - begin) / 1e9)
                run.wait(timeout_s=PATIENCE_S)
        return found


def _appear(path: Path, *, words: bool = False) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if path.exists() and (not words or path.read_text().endswith("\n")):
            return path.read_text()
        time.sleep(0.01)
    raise SystemExit(f"{path} did not appear within {PATIENCE_S:g} s")
