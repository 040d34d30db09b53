"""What waits for a person: todos that one does, and gates at which one decides. In which runs that is, and why in none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from redis import Redis

from coordination.errors import Conflict, CoordinationError, NotFound, UsageError
from coordination.runs.records import RunStatus, TodoState
from coordination.wire.keys import Keys

MANUAL = "manual"
FACTS = ("gate", "undo", "waits_for", "since", "approved_by", "rejected_by", "comment", "decided_at")


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
    since: str | None = None
    """When it came into its state, in ms since 1970."""
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
    return [found for _, found in _look(redis, keys, [(run_id, todo) for run_id in runs])]


def asking(redis: Redis, keys: Keys) -> list[tuple[str, Found]]:
    """Every todo of a live run that waits for a person, with the run; three round trips."""
    runs, parked_of = redis.zrange(keys.live, 0, -1), f"n.{TodoState.PARKED}"
    with redis.pipeline(transaction=False) as pipeline:
        for run_id in runs:
            pipeline.hget(keys.run(run_id).meta, parked_of)
        waiting = [run_id for run_id, n in zip(runs, pipeline.execute(), strict=True) if int(n or 0) > 0]
        for run_id in waiting:
            pipeline.hgetall(keys.run(run_id).state)
        states = pipeline.execute()
    parked = [
        (run_id, todo)
        for run_id, all_of in zip(waiting, states, strict=True)
        for todo, state in all_of.items()
        if state == TodoState.PARKED
    ]
    return [(todo, found) for todo, found in _look(redis, keys, parked) if found.asks]


def _look(redis: Redis, keys: Keys, asked: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Found]]:
    """Those of the todos that their runs have."""
    with redis.pipeline(transaction=False) as pipeline:
        for run_id, todo in asked:
            own = keys.run(run_id)
            pipeline.hget(own.state, todo)
            pipeline.hget(own.place, todo)
            pipeline.hget(own.meta, "status")
            pipeline.hmget(own.facts, [f"{todo} {fact}" for fact in FACTS])
        answers = iter(pipeline.execute())
    for (run_id, todo), state, place, status, values in zip(asked, answers, answers, answers, answers, strict=True):
        if state is not None:
            facts = dict(zip(FACTS, values, strict=True))
            by_hand = place.split()[3] == MANUAL
            yield (
                todo,
                Found(run=run_id, state=TodoState(state), manual=by_hand, status=RunStatus(status), **facts),
            )


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
