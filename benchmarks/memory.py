"""Measures the memory and threads of idle workers: `python -m benchmarks.memory [--todos N] [--json [FILE]]`.

    python -m benchmarks.memory --short    # seconds, to see that it runs

On one server, each for as long as its periodic jobs need to run once: a plain Celery worker with a pool of
threads, a worker that leads the maintenance, one that does not, and one that does not and has the file. Then
the two last ones again, after N todos each. Resident memory is what `ps` shows; its own is what ends with the
process (the rest is shared with other processes of Python). The key of each worker exists before: a worker
that makes it has loaded the cryptography, as has one that has signed a result.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.of_throughput.plain import environment
from benchmarks.report import Report, parser, report
from benchmarks.testbed import Testbed, testbed
from coordination.backend.address import celery_url
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings
from coordination.trust.identity import worker_identity

SHORT = {"todos": 1, "idle_s": 2.0}
GOAL_MB = 70.0
READY = "serving "
REPOS = ("one", "two", "three")


@dataclass(frozen=True, kw_only=True)
class Usage:
    resident_mb: float
    own_mb: float
    threads: int


def usage(pid: int) -> Usage:
    rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    kb = {row[0]: int(row[1]) for row in rows}
    return Usage(
        resident_mb=kb["Rss:"] / 1024,
        own_mb=(kb["Private_Clean:"] + kb["Private_Dirty:"]) / 1024,
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
    )


@contextmanager
def started(argv: Sequence[str], log: Path, ready: str, **more: Any) -> Iterator[int]:
    """Yield the pid of a program that has written `ready` into its log."""
    with log.open("wb") as out:
        program = subprocess.Popen([sys.executable, *argv], stdout=out, stderr=out, **more)
    try:
        while ready not in log.read_text():
            if program.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.05)
        yield program.pid
    finally:
        program.terminate()
        program.wait()


@contextmanager
def worker(place: Testbed, hosts: Path, url: str, repo: str, *words: str) -> Iterator[int]:
    """Yield the pid of a worker of one repository, on a host and in a folder of its own."""
    folder = hosts / repo
    folder.mkdir()
    worker_identity(folder, repo)
    argv = ["-P", "-m", "workers", "--redis", url, "--state", str(folder), *words]
    argv += ["--repo", f"{repo}={place.folder / repo}"]
    env = environment() | {"COORD_HOST": repo}
    with started(argv, folder / "log", READY, env=env, cwd=folder) as pid:
        yield pid


@contextmanager
def plain_worker(folder: Path, url: str) -> Iterator[int]:
    argv = ["-m", "celery", "--broker", celery_url(url), "worker", "--queues", "plain", "--loglevel", "INFO"]
    argv += ["--pool", "threads", "--concurrency", "1", "--without-gossip", "--without-mingle"]
    with started(argv, folder / "plain.log", "ready.", env=environment()) as pid:
        yield pid


def measure(rows: Report, todos: int, idle_s: float) -> None:
    with testbed() as place, TemporaryDirectory(prefix="coord-bench-") as folder:
        hosts = Path(folder)  # not below the file, which they would find
        place.plant(REPOS)
        place.declare(REPOS, [])
        server = EmbeddedServer(place.state, Settings())
        url = server.start()
        file = ("--ecosystem", str(place.file))
        try:
            with (
                plain_worker(hosts, url) as plain,
                worker(place, hosts, url, "one") as leader,
                worker(place, hosts, url, "two") as other,
                worker(place, hosts, url, "three", *file) as with_file,
            ):
                time.sleep(idle_s)
                floor = show(rows, "plain Celery", plain)
                show(rows, "worker that leads", leader, floor)
                show(rows, "worker", other, floor, at_most=GOAL_MB)
                show(rows, "worker with the file", with_file, floor)
                for repo in ("two", "three"):
                    for _ in range(todos):
                        place.coord("exec", "--redis", url, "--repo", repo, "--", "true")
                time.sleep(idle_s)
                show(rows, f"worker after {todos} todos", other, floor)
                show(rows, f"worker with the file, after {todos}", with_file, floor)
        finally:
            server.stop()


def show(
    rows: Report, name: str, pid: int, floor: Usage | None = None, at_most: float | None = None
) -> Usage:
    found = usage(pid)
    beside = f"its own {found.own_mb:.1f} MB, {found.threads} threads"
    if floor:
        beside += f", {found.resident_mb / floor.resident_mb:.2f} times plain Celery"
    rows.add(name, found.resident_mb, "MB", at_most=at_most, beside=beside)
    return found


def main(options: argparse.Namespace) -> None:
    with report("memory", options) as rows:
        measure(rows, options.todos, options.idle_s)


if __name__ == "__main__":
    asked = parser(__doc__, "memory")
    asked.add_argument("--todos", type=int, default=20, metavar="N", help="that a worker executes")
    asked.add_argument("--idle-s", type=float, default=20.0, metavar="S", help="before it is measured")
    given = asked.parse_args()
    if given.short:
        vars(given).update(SHORT)
    main(given)
