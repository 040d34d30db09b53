"""Measures `coord pr create`, `coord pr list` and a landing that waits, for 100 repositories:
`python -m benchmarks.forges`.

The forge is that of the tests, in this process: its git (`git http-backend`) counts among the processor time,
for coord and for the bare pushes beside it; its Python does not.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Report, parser, report
from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.forges.budget import CALLS_PER_POLL, FOR_POLLING
from coordination.git import commit_of
from coordination.settings import Settings
from tests.change_sets import record
from tests.forge.server import Seen, TestForge
from tests.testbed import git

REPOS = 100
MOST_CALLS = 6
BRANCH = "coord/P"
ROUND_S = 30.0
"""The interval at which the benchmark lets each request be looked at."""
ROUNDS = 2
"""Intervals over which calls are counted, after one in which the last requests are opened."""


class Site:
    """Repositories with a change set, at a forge, and coord's processes in front of them."""

    def __init__(self, folder: Path, forge: TestForge, url: str, repos: int) -> None:
        self.folder = folder
        self.forge = forge
        self.names = [f"repo-{i:03}" for i in range(repos)]
        self._redis = url
        self._environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "COORD_HOST": "here"}
        token = forge.token("coord")
        declared = []
        with connect(url, Profile.COMMAND) as client:
            for name in self.names:
                place = folder / name
                git(folder, "init", "-q", "-b", "main", str(place))
                git(place, "commit", "-q", "--allow-empty", "-m", "first")
                base = commit_of(place, "refs/heads/main")
                forge.create_project(f"acme/{name}", seed=place)
                git(place, "switch", "-q", "-c", BRANCH)
                (place / "work").write_text("1\n")
                git(place, "add", "work")
                git(place, "commit", "-q", "-m", "work")
                facts = {"base": base, "tip": commit_of(place, f"refs/heads/{BRANCH}"), "host": "here"}
                record(client, "P", name, namespace="coord", todos=f"T-{name}", **facts)
                address = {"type": "github", "api": forge.api}
                at = forge.url(f"acme/{name}", f"coord:{token}")
                declared.append({"name": name, "path": name, "url": at, "forge": address})
        todos = [{"id": f"T-{name}", "task": "t", "repo": name, "plan": "P"} for name in self.names]
        landed_by = {"via": "pr", "approvals": 1}
        tracked = {"plans": [{"id": "P", "title": "a plan", "land": landed_by}], "todos": todos}
        (folder / "ecosystem.yaml").write_text(json.dumps({"repos": declared, "coordination": tracked}))
        secret = folder / "token"
        secret.write_text(token)
        secret.chmod(0o600)
        self.coord(
            "credential", "add", "forge", f"file:{secret}", "--purpose", "pr", "--host", "127.0.0.1", "--all"
        )

    def coord(self, *words: str) -> Any:
        command = [str(Path(sys.executable).with_name("coord")), "--redis", self._redis, *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, check=False, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in words else None

    def begin(self, *words: str, budget: int) -> subprocess.Popen[str]:
        command = [str(Path(sys.executable).with_name("coord")), "--redis", self._redis, *words]
        environment = {**self._environment, "COORD_FORGE_BUDGET": str(budget)}
        with (self.folder / f"{words[0]}.log").open("w") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                text=True,
            )  # fmt: skip

    def push_all(self) -> None:
        """Push each branch by git alone, under another name."""
        for name in self.names:
            place = self.folder / name
            url = f"{self.forge.url(f'acme/{name}', f'coord:{next(iter(self.forge.core.tokens))}')}"
            git(place, "push", "-q", url, f"{BRANCH}:refs/heads/bare")

    def calls(self) -> list[Seen]:
        seen = list(self.forge.seen)
        self.forge.seen.clear()
        return seen


def used_by(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of some work, and those of the processor in processes that it started."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rows: Report, repos: int) -> None:
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as name:
        folder = Path(name)
        server = EmbeddedServer(folder / "server", Settings())
        try:
            with TestForge(folder / "forge") as forge:
                site = Site(folder, forge, server.start(), repos)
                measure_site(rows, site)
                measure_waiting(rows, site)
                assert forge.violations == []
        finally:
            server.stop()


def measure_site(rows: Report, site: Site) -> None:
    repos = len(site.names)
    bare, bare_cpu = used_by(site.push_all)
    rows.add(
        f"git push, {repos} repositories, one after the other",
        bare,
        "s",
        beside=f"{bare_cpu:.2f} s of processor",
    )
    site.calls()
    for what in ("pr create", "pr create, unchanged"):
        took, cpu = used_by(
            lambda: site.coord("pr", "create", "P", "--label", "coord", "--reviewer", "ann", "--json")
        )
        per_repo = Counter(one.path.split("/")[3] for one in site.calls() if one.path.startswith("/repos/"))
        assert set(per_repo) == set(site.names)
        rows.add(f"{what}: calls for a repository", max(per_repo.values()), "", at_most=MOST_CALLS)
        rows.add(f"{what}: of the bare pushes", took / bare, "x", beside=f"{took:.2f} s")
        rows.add(f"{what}: of their processor time", cpu / bare_cpu, "x", beside=f"{cpu:.2f} s")
    for what in ("pr list", "pr list, unchanged"):
        took, cpu = used_by(lambda: site.coord("pr", "list", "P", "--json"))
        calls = site.calls()
        news = sum(one.status != 304 for one in calls)
        rows.add(f"{what}: calls", len(calls), "", beside=f"{took:.2f} s, {cpu:.2f} s of processor")
        limit = 0 if "unchanged" in what else None
        rows.add(f"{what}: calls that were not answered with 304", news, "", at_most=limit)


def measure_waiting(rows: Report, site: Site) -> None:
    """Let a landing wait for reviews, and then approve all requests."""
    repos = len(site.names)
    budget = round(repos * CALLS_PER_POLL * 3600 / ROUND_S / FOR_POLLING)
    worker = site.begin("worker", "--all", budget=budget)
    landing = site.begin("land", "P", "--via", "pr", "--when-ready", "--yes", budget=budget)
    try:
        _wait(lambda: len(_reviews_read(site)) == repos, 600)
        _wait(lambda: min(_reviews_read(site).values()) > 1, 600)
        site.calls()
        time.sleep(ROUNDS * ROUND_S)
        calls = len(site.calls())
        per_hour = calls * 3600 / (ROUNDS * ROUND_S)
        rows.add(
            f"waiting for {repos} requests: calls, of forge_budget",
            per_hour / budget,
            "x",
            at_most=1.0,
            beside=f"{per_hour:,.0f} an hour of {budget:,}; {calls / ROUNDS / repos:.1f} a request and round",
        )
        ready = time.perf_counter()
        approved = {}
        for name in site.names:
            project, _ = site.forge.core.project(f"acme/{name}")
            site.forge.approve(project, 1)
            approved[name] = len(site.forge.seen)
        _wait(lambda: len(_reviews_read(site)) == repos, 600)
        seen = time.perf_counter() - ready
        _wait(lambda: any(one.path.endswith("/merge") for one in site.forge.seen), 600)
        first = time.perf_counter() - ready
        assert landing.wait(1200) == 0, (site.folder / "land.log").read_text()
        took = time.perf_counter() - ready
        looks = _looks_before_merge(site.calls(), approved)
        polls = max(looks.values()) - 1  # the last look is that of the merge itself
        rows.add(f"all {repos} ready: polls of a request until its merge", polls, "", at_most=1)
        rows.add("until coord has seen it", seen, "s", beside=f"{seen / ROUND_S:.2f} intervals of polling")
        rows.add("until the first merge", first, "s", beside=f"{first - seen:.1f} s after it was seen")
        rows.add("until all have landed", took, "s")
    finally:
        for process in (landing, worker):
            process.terminate()
            process.wait(60)


def _reviews_read(site: Site) -> Counter[str]:
    """Return how often the reviews of each repository were read since the calls were counted last."""
    return Counter(one.path.split("/")[3] for one in list(site.forge.seen) if one.path.endswith("/reviews"))


def _looks_before_merge(calls: Sequence[Seen], since: Mapping[str, int]) -> Counter[str]:
    """Return how often the reviews of each repository were read until its merge. `since`: for each repository
    the number of the first call that counts.
    """
    looks: Counter[str] = Counter()
    merged: set[str] = set()
    for number, call in enumerate(calls):
        name = call.path.split("/")[3]
        if call.path.endswith("/merge"):
            merged.add(name)
        elif call.path.endswith("/reviews") and name not in merged and number >= since[name]:
            looks[name] += 1
    assert merged == since.keys()
    return looks


def _wait(condition: Callable[[], bool], limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the landing does not go on: see land.log and worker.log")
        time.sleep(0.1)


if __name__ == "__main__":
    options = parser(__doc__, "forges").parse_args()
    with report("forges", options) as rows:
        measure(rows, 10 if options.short else REPOS)
