"""What waits for a person: todos that one does, and gates at which one decides. In which runs that is, and why in none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redis import Redis

from coordination.errors import Conflict, CoordinationError, NotFound, UsageError
from coordination.runs.records import RunStatus, TodoState
from coordination.wire.keys import Keys

MANUAL = "manual"
FACTS = ("gate", "undo", "waits_for", "approved_by", "rejected_by", "comment", "decided_at")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A todo of that name in a run."""

    run: str
    state: TodoState
    manual: bool
    status: RunStatus = RunStatus.RUNNING
    """The run's."""
    gate: str | None = None
    undo: str | None = None
    waits_for: str | None = None
    approved_by: str | None = None
    rejected_by: str | None = None
    comment: str | None = None
    decided_at: str | None = None
    """In ms since 1970."""

    @property
    def waits(self) -> bool:
        """For a person to do it."""
        return self.manual and self.state is TodoState.PARKED and not self.undo

    @property
    def asks(self) -> bool:
        """Whether it may go on, or was done."""
        return self.waits or (self.state is TodoState.PARKED and not self.undo and self.has_gate and not self.decided)

    @property
    def has_gate(self) -> bool:
        return self.gate is not None

    @property
    def decided(self) -> bool:
        return (self.approved_by or self.rejected_by) is not None


def find(redis: Redis, keys: Keys, todo: str, runs: Iterable[str]) -> list[Found]:
    """In the order of `runs`; one round trip."""
    asked = list(runs)
    with redis.pipeline(transaction=False) as pipeline:
        for run_id in asked:
            own = keys.run(run_id)
            pipeline.hget(own.state, todo)
            pipeline.hget(own.place, todo)
            pipeline.hget(own.meta, "status")
            pipeline.hmget(own.facts, [f"{todo} {fact}" for fact in FACTS])
        answers = iter(pipeline.execute())
    found = []
    for run_id, state, place, status, facts in zip(asked, answers, answers, answers, answers, strict=True):
        if state is not None:
            told = dict(zip(FACTS, facts, strict=True))
            is_manual = place.split()[3] == MANUAL
            found.append(Found(run=run_id, state=TodoState(state), manual=is_manual, status=RunStatus(status), **told))
    return found


def choose(todo: str, found: Iterable[Found]) -> str:
    """The one run that waits for it to be done; raises NotFound, Conflict or UsageError."""
    there = tuple(found)
    if run_id := only(todo, [one.run for one in there if one.waits], "complete-todo"):
        return run_id
    raise (
        _why_not(todo, there[0])
        if there
        else NotFound(f"no run waits for {todo}", "coord list-runs, coord show-run RUN show what waits")
    )


def only(todo: str, waiting: list[str], deed: str) -> str | None:
    """The only one of these runs, None without any; raises UsageError where there are several."""
    if len(waiting) > 1:
        hint = f"say which: coord {deed} {todo} --run {waiting[0]}"
        raise UsageError(f"runs {' and '.join(waiting)} wait for {todo}", hint)
    return waiting[0] if waiting else None


def _why_not(todo: str, one: Found) -> CoordinationError:
    look = f"look at it: coord show-run {one.run}"
    if one.state.ended:
        return Conflict(f"{todo} of run {one.run} is {one.state}: nothing waits for it", look)
    if not one.manual:
        hint = f"let it begin: coord approve {todo} --run {one.run}" if one.asks else look
        return UsageError(f"{todo} of run {one.run} is no manual todo: a worker carries it out", hint)
    return Conflict(f"{todo} of run {one.run} is {one.state}: its turn has not come", look)
