"""Todos that a person does: in which runs one is waited for, and why in none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redis import Redis

from coordination.errors import Conflict, CoordinationError, NotFound, UsageError
from coordination.runs.records import TodoState
from coordination.wire.keys import Keys

MANUAL = "manual"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A todo of that name in a run."""

    run: str
    state: TodoState
    manual: bool

    @property
    def waits(self) -> bool:
        return self.manual and self.state is TodoState.PARKED


def find(redis: Redis, keys: Keys, todo: str, runs: Iterable[str]) -> list[Found]:
    found = []
    for run_id in runs:
        state, place = redis.hget(keys.run(run_id).state, todo), redis.hget(keys.run(run_id).place, todo)
        if state is not None:
            found.append(Found(run=run_id, state=TodoState(state), manual=place.split()[3] == MANUAL))
    return found


def choose(todo: str, found: Iterable[Found]) -> str:
    """The one run that waits for it; raises NotFound, Conflict or UsageError."""
    there = tuple(found)
    waiting = [one.run for one in there if one.waits]
    if len(waiting) == 1:
        return waiting[0]
    if waiting:
        hint = f"say which: coord complete-todo {todo} --run {waiting[0]}"
        raise UsageError(f"runs {' and '.join(waiting)} wait for {todo}", hint)
    raise (
        _why_not(todo, there[0])
        if there
        else NotFound(f"no run waits for {todo}", "coord list-runs, coord show-run RUN show what waits")
    )


def _why_not(todo: str, one: Found) -> CoordinationError:
    look = f"look at it: coord show-run {one.run}"
    if one.state.ended:
        return Conflict(f"{todo} of run {one.run} is {one.state}: nothing waits for it", look)
    if not one.manual:
        return UsageError(f"{todo} of run {one.run} is no manual todo: a worker carries it out", look)
    return Conflict(f"{todo} of run {one.run} is {one.state}: its turn has not come", look)
