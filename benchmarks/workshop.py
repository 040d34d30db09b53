"""A server, repositories and the real worker in a temporary folder, and runs that are submitted by the
library.

A plan of 10,000 todos is not loaded from a file here: what is measured is how it is carried out. All that was
started is ended with the block, by its id.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.testbed import PLAN, Testbed
from coordination.backend.embedded import EmbeddedServer
from coordination.models import Coordination, Ecosystem, OnFailure, Plan, Repo, Strategy, Todo
from coordination.planner.graph import PlanGraph, build
from coordination.runs.connection import Connection
from coordination.runs.control.starting import start_run
from coordination.runs.records import RunStatus
from coordination.runs.submission.order import Order
from coordination.runs.worker_registry import WorkerRegistry
from coordination.settings import Settings

SETTINGS = Settings(retry_attempts=1)
PATIENCE_S, LOOK_S = 30.0, 0.1
ENDED = frozenset({"succeeded", "failed", "cancelled"})
PAGE = 5000


@dataclass(frozen=True)
class Times:
    """When each todo started and ended by Redis' clock, in ms since 1970, as the run's events have it."""

    started: Mapping[str, int]
    succeeded: Mapping[str, int]

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return (max(self.succeeded.values()) - min(self.started.values())) / 1000


def ecosystem(todos: Sequence[Mapping[str, Any]]) -> Ecosystem:
    made = tuple(Todo.model_validate({"task": "nothing", "plan": PLAN, **todo}) for todo in todos)
    repos = tuple(Repo(name=name) for name in dict.fromkeys(todo.repo for todo in made))
    return Ecosystem(
        repos=repos, coordination=Coordination(plans=(Plan(id=PLAN, title="a benchmark"),), todos=made)
    )


class Workshop:
    def __init__(self, folder: Path, url: str, repos: Sequence[str]) -> None:
        self.folder, self.url, self.repos = folder, url, repos
        self.connection = Connection(url, SETTINGS)

    @contextmanager
    def worker(self, jobs: int, *, awaited: bool = True) -> Iterator[subprocess.Popen[bytes]]:
        """`python -m workers` for all repositories; `awaited`: the block begins when it is ready."""
        named = [word for repo in self.repos for word in ("--repo", f"{repo}={self.folder / repo}")]
        state = str(self.folder / ".coord")
        words = ["--jobs", str(jobs), "--redis", self.url, "--state", state]
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers", *named, *words], cwd=self.folder, stderr=log
            )
        try:
            if awaited:
                self._await_worker(process)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _await_worker(self, process: subprocess.Popen[bytes]) -> None:
        registry = WorkerRegistry(self.connection.redis, self.connection.keys)
        deadline = time.monotonic() + PATIENCE_S
        while not any(worker.pid == process.pid for worker in registry.workers()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(
                    f"the worker did not start:\n{(self.folder / 'worker.log').read_text()[-2000:]}"
                )
            time.sleep(LOOK_S)

    def submit(self, todos: Sequence[Mapping[str, Any]], strategy: Strategy, jobs: int | None = None) -> str:
        """Returns the id of the run, which has started. `jobs`: its max_parallel."""
        declared = ecosystem(todos)
        return self.start(declared, build(declared, PLAN), strategy, jobs)

    def start(
        self,
        declared: Ecosystem,
        graph: PlanGraph,
        strategy: Strategy,
        jobs: int | None = None,
        remaining: Mapping[str, float] | None = None,
    ) -> str:
        order = Order(
            strategy=strategy,
            reason="",
            on_failure=OnFailure.HALT,
            max_parallel=jobs,
            actor="benchmark",
            remaining=remaining or {},
        )
        return start_run(self.connection, declared, graph, order)

    def finished(self, run_id: str, within_s: float) -> Times:
        """Waits for the end with one small question at a time: who follows the events wants the processor,
        too.
        """
        deadline = time.monotonic() + within_s
        while (status := self.connection.reader.status(run_id)) not in ENDED:
            if time.monotonic() > deadline:
                raise TimeoutError(f"run {run_id} has not ended after {within_s:.0f} s")
            time.sleep(LOOK_S)
        if status is not RunStatus.SUCCEEDED:
            raise SystemExit(f"run {run_id}: {status}\n{(self.folder / 'worker.log').read_text()[-2000:]}")
        return self.times(run_id)

    def times(self, run_id: str) -> Times:
        told: dict[str, dict[str, int]] = {"todo.running": {}, "todo.succeeded": {}}
        for entry_id, event in self._events(run_id):
            if event["what"] in told:
                told[event["what"]][event["todo"]] = int(entry_id.partition("-")[0])
        return Times(told["todo.running"], told["todo.succeeded"])

    def _events(self, run_id: str) -> Iterator[tuple[str, dict[str, str]]]:
        stream, after = self.connection.keys.run(run_id).events, "-"
        while page := self.connection.redis.xrange(stream, after, "+", count=PAGE):
            yield from page
            after = f"({page[-1][0]}"


@contextmanager
def workshop(repos: Sequence[str], *, with_git: bool = False) -> Iterator[Workshop]:
    """`with_git`: the repositories have a commit, and todos their worktrees; else they are plain folders."""
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as made:
        folder = Path(made)
        server = EmbeddedServer(folder / ".coord", SETTINGS)
        if with_git:
            Testbed(folder).plant(repos)
        else:
            for name in repos:
                (folder / name).mkdir()
        try:
            yield Workshop(folder, server.start(), repos)
        finally:
            server.stop()
