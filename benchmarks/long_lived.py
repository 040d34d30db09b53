"""Checks whether anything grows with the number of runs: `python -m benchmarks.long_lived [RUNS]`.

RUNS (500) small runs, one after the other, through one real worker process: four todos in two repositories,
both strategies in turn, 40 lines of log each; in every fifth run a todo fails, is tried again and fails for
good. Runs are forgotten after `keep_runs`, here 10 s. After every tenth run is looked at: keys and memory of
Redis, and of the worker its resident memory, threads and open files (by /proc). Not counted is the mark that
Celery leaves of each level for 5 minutes, one small key. The last lines are the means over the second and
over the last fifth, and their ratio:
1.0 is flat.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import mean

from benchmarks.testbed import PLAN, testbed
from coordination.backend.daemon import Daemon
from coordination.ecosystem.document import load
from coordination.models import Strategy
from coordination.planner.graph import build
from coordination.runs.connection import Connection
from coordination.runs.control.starting import start_run
from coordination.runs.submission.order import decide
from coordination.runs.views.run_events import follow
from coordination.settings import Settings

KEPT = timedelta(seconds=10)
LOOK_EVERY = 10
PRINT_EVERY = 50
FAILS_EVERY = 5
REPOS = ("one", "two")
WORDS = "i=0; while [ $i -lt 40 ]; do echo line $i of some words; i=$((i+1)); done"
COLUMNS = ("s/run", "keys", "Redis MB", "RSS MB", "threads", "files")

Sample = tuple[float, ...]


def todos(failing: bool) -> list[dict[str, object]]:
    plain = {"action": WORDS}
    last = {"action": f"{WORDS}; exit 1", "retry": {"attempts": 2, "delay": "10ms"}} if failing else plain
    rows = [("A", "one", []), ("B", "two", ["A"]), ("C", "one", ["A"]), ("D", "two", ["B", "C"])]
    return [
        {
            "id": name,
            "repo": repo,
            "task": f"do {name}",
            "blocked_by": after,
            **(last if name == "D" else plain),
        }
        for name, repo, after in rows
    ]


class Worker:
    """Return the worker's figures in /proc."""

    def __init__(self, state: Path) -> None:
        record = Daemon(state, "worker").running()
        if record is None:
            raise SystemExit("the worker does not run")
        self._proc = Path(f"/proc/{record.pid}")

    def sample(self) -> Sample:
        lines = (line.split() for line in (self._proc / "status").read_text().splitlines())
        facts = {words[0]: words[1] for words in lines if len(words) > 1}
        files = len(list((self._proc / "fd").iterdir()))
        return int(facts["VmRSS:"]) / 1000, int(facts["Threads:"]), files


def samples(connection: Connection, worker: Worker, file: Path, total: int) -> Iterator[Sample]:
    """One for each tenth run."""
    file_settings = Settings(keep_runs=KEPT)
    base = load(file).ecosystem
    began = time.perf_counter()
    for number in range(1, total + 1):
        rows = todos(failing=number % FAILS_EVERY == 0)
        parts = base.model_dump(exclude_unset=True)
        parts["coordination"]["todos"] = [{"plan": PLAN, **row} for row in rows]
        ecosystem = type(base).model_validate(parts)
        graph = build(ecosystem, PLAN)
        strategy = (Strategy.LEVELS, Strategy.DATAFLOW)[number % 2]
        run_id = start_run(connection, ecosystem, graph, decide(graph, file_settings, strategy=strategy))
        for _ in follow(connection.blocking, connection.keys, run_id):
            pass
        if number % LOOK_EVERY == 0:
            took = (time.perf_counter() - began) / LOOK_EVERY
            memory = connection.redis.info("memory")["used_memory"] / 1e6
            yield (took, keys(connection), memory, *worker.sample())
            began = time.perf_counter()


def keys(connection: Connection) -> int:
    marks = connection.redis.scan_iter(f"{connection.keys.celery_prefix}celery-taskset-meta-*", count=1000)
    return int(connection.redis.dbsize()) - len(list(marks))


def line(label: str, values: Sequence[float], form: str = "10.2f") -> str:
    return f"{label:>14}" + "".join(f"{value:{form}}" for value in values)


def means(rows: Sequence[Sample]) -> Sample:
    return tuple(mean(column) for column in zip(*rows, strict=True))


def main(total: int) -> None:
    with testbed() as place:
        place.plant(REPOS)
        place.declare(REPOS, todos(failing=False), settings={"keep_runs": f"{KEPT.total_seconds():g}s"})
        place.coord("up", "--detach", "--no-flower")
        server = Daemon(place.state, "server").running()
        assert server is not None
        print(" " * 14 + "".join(f"{name:>10}" for name in COLUMNS))
        rows: list[Sample] = []
        for row in samples(
            Connection(server.facts["url"], Settings()), Worker(place.state), place.file, total
        ):
            rows.append(row)
            if len(rows) * LOOK_EVERY % PRINT_EVERY == 0:
                print(line(f"run {len(rows) * LOOK_EVERY}", row), flush=True)
    fifth = len(rows) // 5
    early, late = means(rows[fifth : 2 * fifth]), means(rows[-fifth:])
    print(line("second fifth", early))
    print(line("last fifth", late))
    print(line("ratio", [b / a for a, b in zip(early, late, strict=True)]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
