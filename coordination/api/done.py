"""That a todo is done: told to the run that waits for it, else written into the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordination.errors import Conflict
from coordination.runs import approvals
from coordination.runs.records import TodoState

if TYPE_CHECKING:
    from coordination.runs.service import Runs
    from coordination.tracker.manager import CoordinationManager
    from coordination.tracker.records import Edited


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What came of it: the file was changed, a run goes on (and changes the file when it has ended), or both."""

    edited: Edited | None = None
    run_id: str | None = None


def complete_todo(manager: CoordinationManager, runs: Runs | None, todo: str, hours: float | None = None) -> Completed:
    """`runs`: where Redis is there anyway; nothing is started to ask whether a run waits.

    Raises Conflict while a run carries the todo out, and what the manager and `Runs.complete` raise.
    """
    manager.get_todo(todo)
    in_hand = [] if runs is None else _in_hand(runs, todo)
    if runs is None or not in_hand:
        return Completed(edited=manager.complete_todo(todo, hours))
    if not any(one.waits for one in in_hand):
        raise _by_whom(runs, todo, in_hand[0])
    run_id = approvals.run_with_manual_todo(todo, in_hand)
    # With hours the file comes first: the run leaves alone what it finds completed there.
    edited = None if hours is None else manager.complete_todo(todo, hours)
    return Completed(edited=edited, run_id=runs.complete(todo, run_id))


def _in_hand(runs: Runs, todo: str) -> list[approvals.Found]:
    found = approvals.find_runs_of(runs.redis, runs.keys, todo, runs.store.live_runs())
    return [one for one in found if not one.state.ended]


def _by_whom(runs: Runs, todo: str, one: approvals.Found) -> Conflict:
    hint = f"wait for it: coord watch {one.run}; or end it: coord cancel {one.run}"
    if one.state is TodoState.RUNNING:
        worker = next(t.worker for t in runs.reader.read(one.run).todos if t.id == todo)
        return Conflict(f"{worker} is carrying out {todo} in run {one.run}", hint)
    return Conflict(f"run {one.run} has {todo} in hand: it is {one.state}", hint)
