"""Todos that runs have in hand: nobody else may begin, or undo, one of these."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator

from coordination.errors import Conflict, NotFound, Unreadable
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.store import RunStore
from coordination.runs.view import RunReader

logger = logging.getLogger(__name__)


def refuse_under_way(store: RunStore, reader: RunReader, todos: Collection[str]) -> None:
    """Raises Conflict where a run has one of these todos in hand."""
    for run_id in store.live_runs():
        try:
            run = reader.read(run_id, only=())
        except (NotFound, Unreadable) as error:  # of no run that could be carried on: it holds up nobody
            logger.warning("passed over among the live runs: %s", error.message)
            continue
        shared = next(_in_hand(store, run_id, run.status, list(todos)), None)
        if shared is not None:
            end = "" if run.status is RunStatus.ROLLING_BACK else f"; or end it: coord cancel {run_id}"
            raise Conflict(
                f"run {run_id} of {run.plan_id} is {run.status} and has {shared} in hand",
                f"follow it: coord watch {run_id}{end}",
            )


def _in_hand(store: RunStore, run_id: str, status: RunStatus, todos: list[str]) -> Iterator[str]:
    """Of a run that is rolled back whatever is not undone yet. A milestone is nobody's: each run asks
    for its own approval, and another plan may have one of the same name.
    """
    if not todos:
        return
    keys = store.keys.run(run_id)
    states, places = store.redis.hmget(keys.state, todos), store.redis.hmget(keys.place, todos)
    for todo, state, place in zip(todos, states, places, strict=True):
        if state is None or place.split()[2] == MILESTONE_REPO:
            continue
        if state != TodoState.COMPENSATED if status is RunStatus.ROLLING_BACK else not TodoState(state).ended:
            yield todo
