"""Workers on a testbed, each a process that a test may kill at any moment; another takes its place."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.ecosystem.document import load
from coordination.models import Strategy
from coordination.planner.graph import build
from coordination.runs.connection import Connection
from coordination.runs.control.starting import start_run
from coordination.runs.records import LIVE
from coordination.runs.submission.order import decide
from coordination.settings import read_settings
from tests.chaos.ledger import BODY, ENDS
from tests.chaos.record import judged
from tests.testbed import PLAN, Begun, Testbed
from tests.waiting import until

WORKER = (sys.executable, "-P", "-m", "workers")
ACTION = ["sh", str(BODY)]
POLL_S = 0.05
READY_S = 60
NO_POISON = {"lost_leases": 1000, "breaker_failures": 0}
"""Settings of storms: fate kills the same todo's worker, and the same repository's, more often than either
can be blamed for.
"""


class WorkerGroup:
    """`urls`: where each worker finds Redis, on the way through whatever stands between; `served`: what each
    serves.
    """

    def __init__(
        self, testbed: Testbed, urls: Sequence[str], *, jobs: int = 2, served: Sequence[Sequence[str]] = ()
    ) -> None:
        self.testbed = testbed
        self.killed = 0
        self._urls = urls
        self._jobs = jobs
        self._served = list(served) or [["--all"]] * len(urls)
        self.workers = [self._start(number) for number in range(len(urls))]

    def _start(self, number: int) -> Begun:
        words = [*self._served[number], "--jobs", str(self._jobs), "--state", str(self.testbed.state)]
        return self.testbed.begin(*words, command=WORKER, COORD_REDIS_URL=self._urls[number])

    def ready(self) -> None:
        for worker in self.workers:
            until(lambda w=worker: "serving" in w.err, READY_S)  # type: ignore[misc]

    def kill(self, number: int) -> float:
        """SIGKILL; another takes the place at once. Returns when, in seconds since 1970."""
        gone = self.workers[number]
        gone.kill()
        at = time.time()
        gone.wait()
        self.killed += 1
        self.testbed.started.remove(gone)
        gone.forget()
        self.workers[number] = self._start(number)
        return at

    def kill_one(self, chance: random.Random) -> None:
        """Kill a serving worker: one that has not begun has nothing to lose, and on slow machines no worker
        would ever serve.
        """
        serving = [number for number, worker in enumerate(self.workers) if "serving" in worker.err]
        if serving:
            self.kill(chance.choice(serving))

    def restart_ended(self) -> list[str]:
        """A worker that ended by itself is a defect; the words it left."""
        said = []
        for number, worker in enumerate(self.workers):
            if worker.poll() is not None:
                said.append(f"worker {number} ended by itself with {worker.returncode}: {worker.err[-2000:]}")
                self.workers[number] = self._start(number)
        return said


class Watch:
    """A run seen from outside of everything that fate plays with: straight at the server, which may
    be away.
    """

    def __init__(self, testbed: Testbed, redis: Callable[[], Redis]) -> None:
        self._testbed = testbed
        self._redis = redis
        self._keys = Keys("coord")
        self.ended_as: dict[str, str] = {}
        """Run → its status, of those that ended while they were waited for."""

    def status(self, run: str) -> str:
        """Empty while Redis is away."""
        try:
            with self._redis() as client:
                return client.hget(self._keys.run(run).meta, "status") or ""
        except RedisError:
            return ""

    def over(self, run: str) -> bool:
        status = self.status(run)
        return status != "" and status not in LIVE

    def until_over(
        self, runs: Sequence[str], timeout_s: float, meanwhile: Callable[[], None] = lambda: None
    ) -> list[str]:
        """Plays fate until all have ended; each is judged by the ledger then, or when it has not ended in
        time.
        """
        deadline = time.monotonic() + timeout_s
        left, wrong = list(runs), []
        while left and time.monotonic() < deadline:
            for run in [run for run in left if self.over(run)]:
                left.remove(run)
                self.ended_as[run] = self.status(run)
                wrong += self.judge(run)
            meanwhile()
            time.sleep(POLL_S)
        return wrong + [words for run in left for words in (*self.judge(run), *self.dump(run))]

    def judge(self, run: str) -> list[str]:
        with self._redis() as client:
            return judged(client, run, self._testbed.folder / "ledger")

    def ended(self, run: str, todo: str) -> bool:
        with self._redis() as client:
            return client.hget(self._keys.run(run).state, todo) in ENDS

    def workers(self, run: str) -> dict[str, str]:
        """Todo → the worker that took it last."""
        with self._redis() as client:
            return workers_of(client.hgetall(self._keys.run(run).facts))

    def errors(self, run: str) -> list[str]:
        """Return the errors of the failed todos."""
        with self._redis() as client:
            facts = client.hgetall(self._keys.run(run).facts)
        return [
            f"{name.removesuffix(' error')}: {why}" for name, why in facts.items() if name.endswith(" error")
        ]

    def dump(self, run: str) -> list[str]:
        """Describe a run that did not end: each open todo with its state and wait reason."""
        keys = self._keys.run(run)
        with self._redis() as client:
            facts = client.hgetall(keys.facts)
            return [
                f"{todo}: {state}, {facts.get(f'{todo} waits_for', '-')}"
                for todo, state in client.hgetall(keys.state).items()
                if state not in ENDS
            ]


def workers_of(facts: Mapping[str, str]) -> dict[str, str]:
    """Todo → the worker that took it last, from a run's facts."""
    return {name.removesuffix(" worker"): value for name, value in facts.items() if name.endswith(" worker")}


def straight(testbed: Testbed) -> Callable[[], Redis]:
    """The embedded server itself, only if it runs."""

    def client() -> Redis:
        url = testbed.server.url
        if url is None:
            raise ConnectionError
        return connect(url, Profile.COMMAND)

    return client


def begin(testbed: Testbed, url: str, plan: str = PLAN, strategy: str = "dataflow") -> str:
    """Starts a run of the plan; returns its id. As the library does it: the command takes half a
    second more.
    """
    file = load(testbed.file).ecosystem
    graph, settings = build(file, plan), read_settings(file.settings, environ={})
    connection = Connection(url, settings)
    try:
        return start_run(connection, file, graph, decide(graph, settings, strategy=Strategy(strategy)))
    finally:
        connection.close()


def dag(todos: int, repos: int, chance: random.Random, **fields: Any) -> list[Mapping[str, Any]]:
    """Todos over repositories in turn, each after at most two of those before it; every fifth works
    in place.
    """
    names = [f"T{number:04}" for number in range(todos)]
    return [
        {
            "id": name,
            "repo": f"r{number % repos:02}",
            "blocked_by": sorted(
                set(chance.choices(names[max(0, number - 3 * repos) : number], k=chance.choice((0, 1, 1, 2))))
            )
            if number >= repos
            else [],
            "action": ACTION,
            "workspace": "in-place" if number % repos % 5 == 4 else "worktree",
            **fields,
        }
        for number, name in enumerate(names)
    ]


def ledger_of(testbed: Testbed) -> Path:
    return testbed.folder / "ledger"
