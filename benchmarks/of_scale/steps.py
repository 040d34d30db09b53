"""Measures the cost of a run's steps alone: one client submits it, then claims and settles its todos one
after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from redis import Redis

from benchmarks.clock import seconds
from benchmarks.of_scale.plans import repos, todos
from benchmarks.testbed import PLAN
from benchmarks.workshop import SETTINGS, ecosystem
from coordination.backend.steps.run import Delivery, Reply
from coordination.models import Ecosystem, OnFailure, Strategy
from coordination.planner.graph import PlanGraph, build
from coordination.runs.maintenance.rounds import RunRecovery
from coordination.runs.records import Result, RunStatus, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.order import Order
from tests.engine import submit

LEASE = timedelta(minutes=10)
WELL = Result(outcome=TodoState.SUCCEEDED, exit_code=0)
BADLY = Result(outcome=TodoState.FAILED, exit_code=1, error="exit code 1")
SLOWER_THAN_US = 1000
BEGUN = 200


@dataclass(frozen=True, kw_only=True)
class Cost:
    submit_ms: float
    """Time for one todo, as the two below."""
    steps_ms: float
    memory_bytes: float
    longest: tuple[float, str]
    """The one call for which Redis kept everybody waiting the longest, in ms, and which step that was."""


class Nobody:
    """In the place of those who send messages: deliveries are taken in their order."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self.mail: deque[Delivery] = deque()

    def follow(self, reply: Reply) -> None:
        self.mail.extend(reply.sends)
        for run_id, todo_id in reply.wakes:
            self.follow(self._store.fire(run_id, todo_id))

    def finish(self, run_id: str, at_most: int = 1000) -> None:
        for _ in range(at_most):
            batch = self._store.next_batch(run_id)
            if batch is None:
                return
            self.follow(self._store.execute_batch(run_id, batch))

    def send(self, deliveries: tuple[Delivery, ...]) -> None:
        self.mail.extend(deliveries)


class Steps:
    """Plans of one size; what is planned is planned once."""

    def __init__(self, store: RunStore, n: int, on_failure: OnFailure = OnFailure.HALT) -> None:
        self._store = store
        self.n = n
        self._ecosystem: Ecosystem = ecosystem(todos(n, repos()))
        self._graph: PlanGraph = build(self._ecosystem, PLAN)
        self._order = Order(
            strategy=Strategy.DATAFLOW, reason="", on_failure=on_failure, max_parallel=None, actor="benchmark"
        )

    def submit(self) -> tuple[str, Nobody]:
        run_id, reply = submit(self._store, self._graph, self._ecosystem, SETTINGS, self._order)
        nobody = Nobody(self._store)
        nobody.follow(reply)
        nobody.finish(run_id)
        return run_id, nobody

    def settle(self, nobody: Nobody, result: Result = WELL) -> None:
        delivery = nobody.mail.popleft()
        reply = self._store.claim(
            delivery.run_id, delivery.todo_id, delivery.attempt, worker="w", host="h", lease=LEASE
        )
        nobody.follow(reply)
        if reply.grant is not None:
            nobody.follow(self._store.settle(reply.grant, result))

    def drain(self, nobody: Nobody) -> None:
        while nobody.mail:
            self.settle(nobody)

    def carry_out(self) -> Cost:
        """All of a run, from the submission to its end."""
        redis = self._store.redis
        before = redis.info("memory")["used_memory"]
        with longest_call(redis) as longest:
            made: list[tuple[str, Nobody]] = []
            submitting = seconds(lambda: made.append(self.submit()))
            (run_id, nobody), = made  # fmt: skip
            working = seconds(lambda: self.drain(nobody))
        assert self._store.status(run_id) == RunStatus.SUCCEEDED, "the run has not ended"
        return Cost(
            submit_ms=1000 * submitting / self.n,
            steps_ms=1000 * working / self.n,
            memory_bytes=(redis.info("memory")["used_memory"] - before) / self.n,
            longest=longest(),
        )

    def ended_at_once(self, end: Callable[[str, Nobody], None]) -> tuple[float, str]:
        """The longest call when all of a run ends by one decision, until it has ended."""
        run_id, nobody = self.submit()
        with longest_call(self._store.redis) as longest:
            end(run_id, nobody)
            reaper = RunRecovery(self._store, nobody, SETTINGS)  # type: ignore[arg-type]
            for _ in range(self.n):
                if self._store.status(run_id) != RunStatus.RUNNING:
                    break
                reaper.run_once()
                self.drain(nobody)
        status = self._store.status(run_id)
        assert status in (RunStatus.FAILED, RunStatus.CANCELLED), f"the run is {status}"
        return longest()

    def surveyed(self) -> Iterator[tuple[str, tuple[float, str]]]:
        """The longest call of what goes through all of a run, for it has to: some todos are done, then it is
        asked whether it is stuck, and rolled back.
        """
        run_id, nobody = self.submit()
        for _ in range(min(BEGUN, self.n)):
            self.settle(nobody)
        with longest_call(self._store.redis) as longest:
            assert self._store.stuck(run_id) == ()
        yield "asked whether stuck", longest()
        with longest_call(self._store.redis) as longest:
            self._store.rollback(run_id, "benchmark", "to see what it takes")
            nobody.finish(run_id)
        assert self._store.status(run_id) == RunStatus.ROLLING_BACK
        yield "rolled back", longest()

    def cancel(self, run_id: str, nobody: Nobody) -> None:
        nobody.follow(self._store.cancel(run_id, "benchmark"))

    def fail(self, _run_id: str, nobody: Nobody) -> None:
        self.settle(nobody, BADLY)


@contextmanager
def longest_call(redis: Redis) -> Iterator[Callable[[], tuple[float, str]]]:
    """By the server's own log of slow commands."""
    redis.config_set("slowlog-log-slower-than", SLOWER_THAN_US)
    redis.config_set("slowlog-max-len", 100_000)
    redis.slowlog_reset()
    found: list[tuple[float, str]] = []
    yield lambda: found[0]
    calls = ((entry["duration"] / 1000, entry["command"].decode()) for entry in redis.slowlog_get(100_000))
    found.append(max(calls, default=(SLOWER_THAN_US / 1000, "none")))
    redis.config_set("slowlog-log-slower-than", -1)
