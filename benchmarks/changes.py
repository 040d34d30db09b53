"""Measures `coord changes`, and a sweep that finds nothing new: `python -m benchmarks.changes`.

`coord changes` of 500 repositories is measured against asking git for the same figures (two calls each), the
second sweep of a plan against its first one: with the processor time of its command, of the worker with its
children, and of Redis. The goals are of processor time, which does not depend on what else the machine does.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.clock import seconds
from benchmarks.overhead import processor_s
from benchmarks.report import Report, parser, report
from benchmarks.testbed import PLAN, testbed
from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings
from tests.change_sets import record
from tests.testbed import git

REPOS = 500
ROUNDS = 5
LIMIT_S = 1.0
SECOND_SWEEP_S = 2.0
MEASURED_WITH_GIT = 50
"""Repositories in which git is asked; the time is projected to all."""


def write_file(folder: Path, plans: int, repos: int) -> None:
    """Write a file in which each plan has a todo in each of its repositories."""
    names = [f"repo-{i}" for i in range(repos)]
    todos = [
        {"id": f"T-{i}", "task": "t", "repo": name, "plan": f"P-{i % plans}", "action": "true"}
        for i, name in enumerate(names)
    ]
    plan_ids = [{"id": f"P-{i}", "title": "a plan"} for i in range(plans)]
    file = {"repos": [{"name": name} for name in names], "coordination": {"plans": plan_ids, "todos": todos}}
    (folder / "ecosystem.yaml").write_text(json.dumps(file))


def listed(folder: Path, url: str, plans: int, repos: int) -> tuple[float, float]:
    """Return the seconds of `coord changes --json`, a process of its own, and those of the processor."""
    write_file(folder, plans, repos)
    with connect(url, Profile.COMMAND) as client:
        client.flushall()
        for i in range(repos):
            record(client, f"P-{i % plans}", f"repo-{i}", namespace="coord", todos=f"T-{i}")
    command = [str(Path(sys.executable).with_name("coord")), "--redis", url, "changes", "--json"]

    def ask() -> None:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
        assert len(json.loads(done.stdout)) == repos

    used = [_used_by(ask) for _ in range(ROUNDS)]
    return min(took for took, _ in used), min(cpu for _, cpu in used)


def _used_by(ask: Callable[[], object]) -> tuple[float, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = seconds(ask)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def by_git(folder: Path, repos: int) -> float:
    """Return the seconds of the calls of git that would tell commits, files and lines."""
    template = folder / "template"
    git(folder, "init", "-q", "-b", "main", str(template))
    (template / "a").write_text("1\n")
    git(template, "add", ".")
    git(template, "commit", "-qm", "one")
    git(template, "switch", "-qc", "work")
    (template / "a").write_text("2\n")
    git(template, "commit", "-qam", "two")
    places = [folder / f"repo-{i}" for i in range(min(repos, MEASURED_WITH_GIT))]
    for place in places:
        shutil.copytree(template, place)
    began = time.perf_counter()
    for place in places:
        git(place, "rev-list", "--count", "main..work")
        git(place, "diff", "--shortstat", "main", "work")
    return (time.perf_counter() - began) * repos / len(places)


def measure(rows: Report, repos: int) -> None:
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as name:
        folder = Path(name)
        server = EmbeddedServer(folder / "server", Settings())
        url = server.start()
        try:
            asked = by_git(folder, repos)
            for plans in (1, repos):
                took, cpu = listed(folder, url, plans, repos)
                what = f"{repos} repositories of {plans} plans"
                rows.add(f"coord changes, {what}", cpu, "s", at_most=LIMIT_S, beside=f"{took:.2f} s")
                rows.add(f"of git's own time, {what}", took / asked, "x", at_most=1, beside=f"{asked:.2f} s")
        finally:
            server.stop()


def sweep_again(rows: Report, todos: int, repos: int) -> None:
    names = [f"repo-{i}" for i in range(repos)]
    declared = [
        {"id": f"T-{i}", "task": "t", "repo": names[i % repos], "action": f"echo {i} >file-{i}"}
        for i in range(todos)
    ]
    with testbed() as place:
        place.plant(names)
        place.declare(names, declared)
        place.coord("up", "--detach", "--no-flower")

        def sweep() -> tuple[float, float]:
            before = sum(processor_s(place))
            took, cpu = _used_by(lambda: place.coord("sweep", PLAN, "--jobs", "4"))
            return took, cpu + sum(processor_s(place)) - before

        first_s, first_cpu = sweep()
        assert len(json.loads(place.coord("changes", "--json"))) == repos
        again = [sweep() for _ in range(ROUNDS)]
    second_s, second_cpu = min(took for took, _ in again), min(cpu for _, cpu in again)
    what = f"{todos} todos in {repos} repositories"
    rows.add(f"first sweep, {what}", first_cpu, "s", beside=f"{first_s:.2f} s")
    rows.add(f"second sweep, {what}", second_cpu, "s", at_most=SECOND_SWEEP_S, beside=f"{second_s:.2f} s")
    rows.add("second sweep over first", second_cpu / first_cpu, "x", beside=f"{second_s / first_s:.3f}")


if __name__ == "__main__":
    options = parser(__doc__, "changes").parse_args()
    with report("changes", options) as rows:
        measure(rows, 50 if options.short else REPOS)
        sweep_again(rows, *((8, 4) if options.short else (100, 20)))
