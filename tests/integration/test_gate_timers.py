"""The time of a gate runs while no command does: the keeper decides when nobody came."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordination.backend.client import Profile, connect
from coordination.broker.celery_app import make_app
from coordination.models import OnFailure, Strategy
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance.leader import MaintenanceLeader
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.contracts.carrier import Harness
from tests.plans import ecosystem, graph, order
from tests.waiting import until

SETTINGS = Settings(lease_ttl=timedelta(seconds=1), reaper=False)
TODOS = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["D"]), "D": "r4"}


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
@pytest.mark.parametrize(
    ("action", "verdict", "states"),
    [
        ("true", "approve", {"A": "dispatched", "B": "waiting"}),
        ("true", "reject", {"A": "failed", "B": "skipped", "C": "dispatched"}),
        ({"type": "manual"}, "approve", {"A": "succeeded", "B": "dispatched", "C": "dispatched"}),
    ],
)
def test_when_nobody_comes_in_time_the_run_goes_on_as_the_gate_says(
    redis_url: str, strategy: Strategy, action: object, verdict: str, states: dict[str, str]
) -> None:
    store = RunStore(connect(redis_url, Profile.COMMAND), "test")
    keeper = MaintenanceLeader(
        store, Dispatcher(make_app(redis_url, store.keys, SETTINGS), store), SETTINGS, label="me"
    )
    more = {
        "A": {"gate": {"timeout": "1ms", "on_timeout": verdict}, "action": action},
        "D": {"action": {"type": "manual"}},
    }
    run = Harness(store)
    run.submit(graph(TODOS, **more), ecosystem(TODOS, **more), order(strategy, OnFailure.CONTINUE))
    run.follow(store.complete(run.run_id, "D", "me"))

    assert until(lambda: keeper.run_once().fired, 10) == 1

    found = run.states()
    assert {name: found[name] for name in states} == states
    assert keeper.run_once().fired == 0
