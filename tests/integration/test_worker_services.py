"""Which services a real worker runs, and what it has imported for them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.testbed import git, plain
from tests.waiting import until

TOLD = """
import json, sys, threading

def tell():
    for _ in sys.stdin:
        threads = sorted(thread.name for thread in threading.enumerate() if thread.name != "tell")
        print(json.dumps({"threads": threads, "modules": sorted(sys.modules)}), flush=True)

threading.Thread(target=tell, name="tell", daemon=True).start()
from workers.__main__ import main
sys.exit(main())
"""
FROM_THE_START = {"MainThread", "leases", "maintenance", "cleanup", "notifications", "inbox", "liveness"}
OF_THE_LEADER = {"serving", "sweeper"}
OF_THE_FILE = {"file-watch", "health", "remotes", "results-writer", "history"}
NEEDED_LATER = {
    "workers.execution",
    "workers.attempt.attempt",
    "workers.cleanup.execution",
    "workers.landing",
    "workers.leader_services",
    "workers.file_services",
    "workers.restricted",
    "coordination.runs.maintenance.rounds",
    "coordination.runs.submission.submit",
    "coordination.planner.graph",
    "coordination.history.store",
    "cryptography.hazmat.bindings._rust",
    "prometheus_client",
    "flower",
    "networkx",
}
"""Modules that a worker without file, leadership and todo has not imported."""


class WorkerProcess:
    def __init__(self, folder: Path, name: str, url: str, *words: str) -> None:
        state = folder / f"state-{name}"
        repo = folder / name
        git(folder, "init", "-q", "-b", "main", str(repo))
        git(repo, "commit", "-q", "--allow-empty", "-m", "first")
        argv = [sys.executable, "-P", "-c", TOLD, "--redis", url, "--state", str(state)]
        with (folder / f"{name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*argv, *(words or ("--repo", f"{name}={repo}"))],
                cwd=folder,
                env=plain() | {"COORD_HOST": name},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def _ask(self) -> dict[str, list[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        told: dict[str, list[str]] = json.loads(self.process.stdout.readline())
        return told

    def threads(self) -> set[str]:
        return set(self._ask()["threads"])

    def modules(self) -> set[str]:
        return set(self._ask()["modules"])

    def end(self, by: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(by)
        self.process.communicate()


StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def start(tmp_path: Path, redis_url: str) -> Iterator[StartWorker]:
    started: list[WorkerProcess] = []

    def begin(name: str, *words: str) -> WorkerProcess:
        started.append(WorkerProcess(tmp_path, name, redis_url, *words))
        return started[-1]

    yield begin
    for worker in started:
        worker.end(signal.SIGKILL)


def test_the_services_of_the_leader_run_only_in_the_leader_and_move_when_it_is_killed(start: StartWorker):
    leader = start("one")
    until(lambda: leader.threads() == FROM_THE_START | OF_THE_LEADER)
    assert "workers.leader_services" in leader.modules()

    first = start("two")  # makes the key of the worker
    until(lambda: first.threads() >= FROM_THE_START)
    first.end()
    follower = start("two")
    until(lambda: follower.threads() >= FROM_THE_START)
    assert follower.threads() == FROM_THE_START
    assert follower.modules() & NEEDED_LATER == set()

    leader.end(signal.SIGKILL)
    until(lambda: follower.threads() == FROM_THE_START | OF_THE_LEADER)


def test_a_leader_that_was_frozen_ends_the_services_of_the_leader(start: StartWorker):
    leader = start("one")
    until(lambda: leader.threads() >= FROM_THE_START | OF_THE_LEADER)
    follower = start("two")
    until(lambda: follower.threads() == FROM_THE_START)

    leader.process.send_signal(signal.SIGSTOP)
    until(lambda: follower.threads() == FROM_THE_START | OF_THE_LEADER)
    leader.process.send_signal(signal.SIGCONT)

    until(lambda: leader.threads() == FROM_THE_START)
    follower.end()
    until(lambda: leader.threads() == FROM_THE_START | OF_THE_LEADER)


def test_a_worker_with_the_file_has_its_services_and_nothing_that_executes_todos(
    start: StartWorker, tmp_path: Path
):
    leader = start("one")
    until(lambda: leader.threads() >= OF_THE_LEADER)
    (tmp_path / "ecosystem.yaml").write_text("repos: [{name: two, path: two}]\n")

    follower = start("two", "--all")
    until(lambda: follower.threads() >= FROM_THE_START | OF_THE_FILE)

    assert follower.threads() == FROM_THE_START | OF_THE_FILE
    assert not follower.modules() & {"workers.execution", "workers.leader_services", "cryptography.x509"}
