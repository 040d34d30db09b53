"""Runs that have ended, many, and what those that look and those that keep runs going take beside them."""

from __future__ import annotations

from benchmarks.clock import best
from benchmarks.of_scale.steps import Steps
from benchmarks.workshop import SETTINGS
from coordination.broker.celery_app import make_app
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance.leader import MaintenanceLeader
from coordination.runs.store import RunStore
from coordination.runs.views.run_view import LAST, RunReader

TINY = 2
ROUNDS = 15


def finish(store: RunStore, runs: int) -> None:
    """Real ones, by the steps: two todos each."""
    tiny = Steps(store, TINY)
    for _ in range(runs):
        _, nobody = tiny.submit()
        tiny.drain(nobody)


def looks(store: RunStore, url: str, work: Steps) -> dict[str, float]:
    """Milliseconds, the best of some: of a todo by the steps, of the looks of `list-runs` and `show-run`, of
    a keeper's round.
    """
    reader = RunReader(store.redis, store.keys)
    keeper = MaintenanceLeader(
        store, Dispatcher(make_app(url, store.keys, SETTINGS), store), SETTINGS, label="benchmark"
    )
    run_id, _ = work.submit()  # one that is live, for the keeper
    operations = {
        "list-runs": lambda: reader.list(),
        "show-run last": lambda: reader.read(reader.resolve(LAST)),
        "a keeper's round": lambda: keeper.run_once(),
    }
    costs = [work.carry_out().steps_ms for _ in range(3)]
    found = {name: 1000 * best(operation, ROUNDS) for name, operation in operations.items()}
    store.cancel(run_id, "benchmark")
    return {"claim and settle": min(costs), **found}
