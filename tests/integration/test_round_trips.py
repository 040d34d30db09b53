"""Promise 5: what a worker asks of Redis for one todo, counted where it is sent."""

from __future__ import annotations

from typing import Any

import pytest
from redis.connection import UnixDomainSocketConnection

from coordination.cache.contexts import Cache
from coordination.runs.submission.submit import submit
from coordination.settings import Settings
from tests.integration.conftest import MakeWorker
from tests.plans import ecosystem, graph, order
from workers.app import Container
from workers.outcome import TaskResult, TaskResultKind

CHAIN = {f"T{i}": ("r1", [f"T{i - 1}"] if i else []) for i in range(6)}
IN_PLACE: dict[str, Any] = {name: {"workspace": "in-place"} for name in CHAIN}


class Counted(UnixDomainSocketConnection):
    """A connection that counts what is sent: a command, or a whole pipeline."""

    sent = 0

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        Counted.sent += 1
        super().send_packed_command(command, check_health)


@pytest.fixture
def parts(make_worker: MakeWorker) -> Container:
    made = make_worker("r1")
    made.redis.connection_pool.connection_class = Counted
    return made


@pytest.mark.parametrize("shared", [False, True], ids=["nothing is shared", "something is shared"])
def test_promise_5_a_todo_costs_a_worker_at_most_three_round_trips(parts: Container, shared: bool):
    if shared:
        cache = Cache(parts.redis, "coord")
        cache.at().set("a", 1)
        cache.close()
    run_id, _ = submit(
        parts.store, graph(CHAIN, **IN_PLACE), ecosystem(CHAIN, **IN_PLACE), Settings(), order()
    )
    spent = []
    for name in CHAIN:
        before = Counted.sent
        assert parts.deliveries.handle(run_id, name, 1, "r1") == TaskResult(TaskResultKind.DONE)
        spent.append(Counted.sent - before)

    # The first one also connects, sends the steps whole, and reads the run's brief; the last one sees the run's end.
    assert spent[1:-1] == [3, 3, 3, 3]
    assert parts.store.status(run_id) == "succeeded"


def test_what_a_failed_attempt_has_written_costs_no_round_trip_of_its_own(parts: Container):
    todos = {
        name: {**fields, "action": "echo [1] > $COORD_OUTPUT; exit 1"} for name, fields in IN_PLACE.items()
    }
    run_id, _ = submit(
        parts.store, graph(CHAIN, **todos), ecosystem(CHAIN, **todos), Settings(retry_attempts=3), order()
    )
    spent = []
    for attempt in (1, 2):
        before = Counted.sent
        parts.deliveries.handle(run_id, "T0", attempt, "r1")
        spent.append(Counted.sent - before)
        assert parts.store.fire(run_id, "T0").word == "fired"

    assert spent[1] <= 3
    assert parts.store.redis.hgetall(parts.store.keys.run(run_id).checkpoint) == {"T0": "[1]"}
