"""What a person decides: which run waits for it, what came of it, and why there is nothing to decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coordination.errors import Conflict, CoordinationError, NotFound, UsageError
from coordination.models import Verdict
from coordination.planner.gates import DONE
from coordination.runs.manual import Found, find, only
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.store import RunStore
from coordination.runs.view import iso
from coordination.text import did_you_mean, listed

LOOKED_AT = 100
"""Of the runs that have ended, so many are asked for a todo that none waits for."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a person has decided, and where."""

    todo: str
    run_id: str
    verdict: Verdict
    by: str
    comment: str
    run_status: RunStatus
    """After it."""


def choose(store: RunStore, verdict: Verdict, todo: str, run_id: str | None) -> str:
    """The one run that asks about it; raises NotFound, Conflict, or UsageError where several ask, or it has no gate."""
    live = store.live_runs()
    found = find(store.redis, store.keys, todo, live if run_id is None else [run_id])
    if chosen := only(todo, [one.run for one in found if one.asks], verdict):
        return chosen
    found = found or (_in_ended(store, todo) if run_id is None else [])
    if found:
        raise why_not(store, verdict, todo, found[0])
    raise _unknown(store, todo, live if run_id is None else [run_id], run_id)


def why_not(store: RunStore, verdict: Verdict, todo: str, one: Found) -> CoordinationError:
    """Why nobody is asked about it there."""
    where, look = f"{todo} of run {one.run}", f"look at it: coord show-run {one.run}"
    if one.decided:
        return _decided(verdict, todo, one)
    if one.status is RunStatus.ROLLING_BACK:
        return Conflict(f"run {one.run} is rolling back: nothing of it begins any more", look)
    if one.state.ended:
        return Conflict(f"{where} is {one.state}: nobody is asked about it any more", look)
    if not (one.manual or one.has_gate):
        return UsageError(f"{where} has no gate: it needs no approval", look)
    return Conflict(f"{where} is {one.state}: its turn has not come{_held_up(store, todo, one)}", look)


def _decided(verdict: Verdict, todo: str, one: Found) -> Conflict:
    rejected = one.rejected_by is not None
    said = f': "{one.comment}"' if one.comment else ""
    word = DONE[Verdict.REJECT if rejected else Verdict.APPROVE]
    what = f"{todo} was {word} by {one.rejected_by or one.approved_by} at {iso(one.decided_at)}{said}"
    if rejected and verdict is Verdict.APPROVE:
        return Conflict(what, f"try the run again: coord retry {one.run}")
    if verdict is Verdict.REJECT and not rejected and not one.state.ended:
        return Conflict(what, f"it goes on; end the run: coord cancel {one.run}")
    return Conflict(what, f"look at it: coord show-run {one.run}")


def _held_up(store: RunStore, todo: str, one: Found) -> str:
    """`; it waits for A, B`, as far as anybody can tell."""
    if one.state is not TodoState.WAITING:
        return f"; it waits for {one.waits_for}" if one.waits_for else ""
    before = store.brief(one.run).predecessors.get(todo, ())
    states = store.redis.hmget(store.keys.run(one.run).state, before) if before else []
    open_ones = [name for name, state in zip(before, states, strict=True) if state != TodoState.SUCCEEDED]
    return f"; it waits for {listed(open_ones)}" if open_ones else "; it waits for the level before it"


def _in_ended(store: RunStore, todo: str) -> list[Found]:
    """The newest run that has it."""
    return find(store.redis, store.keys, todo, store.redis.zrevrange(store.keys.runs, 0, LOOKED_AT - 1))[:1]


def _unknown(store: RunStore, todo: str, runs: Iterable[str], run_id: str | None) -> NotFound:
    names = [name for run in runs for name in store.redis.hkeys(store.keys.run(run).state)]
    near = did_you_mean(todo, names)
    if run_id is not None:
        return NotFound(f"run {run_id} has no todo {todo!r}{near}", f"coord show-run {run_id} lists them")
    return NotFound(f"no run has a todo {todo!r}{near}", "coord list-runs, coord show-run RUN show what waits")
