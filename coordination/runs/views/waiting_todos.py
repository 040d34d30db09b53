"""Find the todos of runs that wait for a person: manual todos for the work, gates for an approval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from redis import Redis

from coordination.backend.keys import Keys
from coordination.runs.records import Descriptor, RunStatus, TodoState

MANUAL = "manual"
FACTS = ("gate", "undo", "waits_for", "since", "approved_by", "rejected_by", "comment", "decided_at")


@dataclass(frozen=True, kw_only=True)
class TodoOfRun:
    """A todo of that name in a run."""

    run: str
    state: TodoState
    manual: bool
    status: RunStatus = RunStatus.RUNNING
    """Status of the run."""
    gate: str | None = None
    undo: str | None = None
    waits_for: str | None = None
    since: str | None = None
    """Time at which it came into its state, in ms since 1970."""
    approved_by: str | None = None
    rejected_by: str | None = None
    comment: str | None = None
    decided_at: str | None = None
    """In ms since 1970."""

    @property
    def waits(self) -> bool:
        """Return whether it waits for a person to do it."""
        return self.manual and self.state is TodoState.PARKED and not self.undo

    @property
    def asks(self) -> bool:
        """Return whether it waits for a person's decision or work."""
        return self.waits or (
            self.state is TodoState.PARKED and not self.undo and self.has_gate and not self.decided
        )

    @property
    def has_gate(self) -> bool:
        return self.gate is not None

    @property
    def decided(self) -> bool:
        return (self.approved_by or self.rejected_by) is not None


def find_runs_of(redis: Redis, keys: Keys, todo: str, runs: Iterable[str]) -> list[TodoOfRun]:
    """Return the todo in each run that has it, in the order of `runs`; one round trip."""
    return [found for _, found in _look(redis, keys, [(run_id, todo) for run_id in runs])]


def asking(redis: Redis, keys: Keys) -> list[tuple[str, TodoOfRun]]:
    """Return every todo of a live run that waits for a person, with the run; three round trips."""
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


def _look(redis: Redis, keys: Keys, asked: Sequence[tuple[str, str]]) -> Iterator[tuple[str, TodoOfRun]]:
    """Yield the todos that exist in their runs."""
    with redis.pipeline(transaction=False) as pipeline:
        for run_id, todo in asked:
            own = keys.run(run_id)
            pipeline.hget(own.state, todo)
            pipeline.hget(own.place, todo)
            pipeline.hget(own.meta, "status")
            pipeline.hmget(own.facts, [f"{todo} {fact}" for fact in FACTS])
        answers = iter(pipeline.execute())
    for (run_id, todo), state, descriptor, status, values in zip(
        asked, answers, answers, answers, answers, strict=True
    ):
        if state is not None:
            facts = dict(zip(FACTS, values, strict=True))
            by_hand = Descriptor.parse(descriptor).kind == MANUAL
            yield (
                todo,
                TodoOfRun(
                    run=run_id, state=TodoState(state), manual=by_hand, status=RunStatus(status), **facts
                ),
            )
