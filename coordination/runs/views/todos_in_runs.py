"""Find the todos of the file in runs: the run of each, its state there, its worker, the reason of its wait;
the todos that wait for a person.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from redis import Redis

from coordination.backend.keys import Keys
from coordination.errors import CoordinationError, NotFound, Unreadable
from coordination.frozen import FrozenModel
from coordination.runs.records import Descriptor, RunStatus, TodoState
from coordination.runs.views.run_view import DAMAGE, RunReader
from coordination.runs.views.todo_view import BEGUN, TODOS_AT_ONCE, iso
from coordination.runs.worker_registry import WorkerRegistry

RUNS_SEARCHED = 100
"""Number of runs, newest first, that are searched for a todo; all are read at once."""
IN_PROGRESS = BEGUN | {TodoState.READY, TodoState.SUCCEEDED}
"""States of a todo in a live run in which it is in progress: the run has executed it, executes it, or begins
it next. The file says completed only when the run ends.
"""
FACTS = ("worker", "since", "waits_for")
"""Facts that are read of each todo in hand."""


class LiveTodo(FrozenModel):
    """A todo in a run. `worker`, `since` and `waits_for` are known while the run has it in hand, or where it
    alone was asked for, as the other facts are.
    """

    run_id: str
    run_status: RunStatus
    state: TodoState
    attempt: int = 0
    worker: str | None = None
    since: str | None = None
    """Time at which it came into its state."""
    finished_at: str | None = None
    waits_for: str | None = None
    error: str | None = None

    @property
    def in_progress(self) -> bool:
        """Return whether the run executes the todo, has executed it, or starts it next."""
        return self.state in IN_PROGRESS

    @property
    def rank(self) -> int:
        """Return the rank of this state of the todo where two runs have the todo; the higher one counts."""
        return 3 if self.state is TodoState.RUNNING else 2 if self.state in BEGUN else int(self.in_progress)


class DecidableTodo(LiveTodo):
    """A todo in a run with all that says whether a person may decide on it."""

    manual: bool
    """True if a person does it."""
    gate: str | None = None
    undo: str | None = None
    soak: str | None = None
    """Not None if its gate waits for a time to pass, which a person may end."""
    question: str | None = None
    """The question of its agent that no person has answered yet."""
    approved_by: str | None = None
    rejected_by: str | None = None
    comment: str | None = None
    decided_at: str | None = None

    @property
    def waits(self) -> bool:
        """Return whether it waits for a person to do it."""
        return self.manual and self.state is TodoState.PARKED and not self.undo

    @property
    def asks(self) -> bool:
        """Return whether it waits for a person's decision or work."""
        is_open = self.has_gate and not self.decided
        is_parked = self.state is TodoState.PARKED and not self.undo
        return self.waits or (is_parked and (is_open or self.question is not None))

    @property
    def has_gate(self) -> bool:
        return self.gate is not None

    @property
    def decided(self) -> bool:
        return self.question is None and (self.approved_by or self.rejected_by) is not None


class Asked(FrozenModel):
    """A todo or milestone that waits for a person's decision."""

    todo: str
    run_id: str
    waits_for: str
    since: str | None = None


MANUAL = "manual"
DECISION_FACTS = (
    *FACTS, "gate", "undo", "soak", "question", "approved_by", "rejected_by", "comment", "decided_at",
)  # fmt: skip
"""Facts that are read of a todo on which a person may decide."""


class TodosInRuns:
    """The todos of the file in runs; only reads. Methods raise redis-py's errors."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._reader = RunReader(redis, keys)
        self._registry = WorkerRegistry(redis, keys)

    def newest(self, todo_id: str, ecosystem: str = "") -> LiveTodo | None:
        """Return the todo in the newest live run that has it, else in the newest run; None if none of the
        last hundred has it, or another ecosystem than this one owns the namespace.
        """
        passed = set[str]()
        if self._is_other(ecosystem):
            return None
        while (run_id := self._newest_with(todo_id, passed)) is not None:
            try:
                return self._in_run(run_id, todo_id)
            except (NotFound, Unreadable):  # it was forgotten meanwhile, or is damaged
                passed.add(run_id)
        return None

    def _in_run(self, run_id: str, todo_id: str) -> LiveTodo:
        todo, status = self._reader.todo(run_id, todo_id), self._reader.status(run_id)
        return LiveTodo(
            run_id=run_id,
            run_status=status,
            state=todo.state,
            attempt=todo.attempt,
            worker=todo.worker,
            since=todo.since or (todo.finished_at if todo.state.ended else todo.started_at),
            finished_at=todo.finished_at,
            waits_for=todo.waits_for,
            error=todo.error,
        )

    def executing(self, ecosystem: str = "") -> Mapping[str, LiveTodo]:
        """Return the todos that live runs have executed, execute, or will execute: no other run may start
        them. Empty if another ecosystem than this one owns the namespace: its todos may have the same ids.

        Of two runs with the same todo, the one that executes it counts, else the newer one. A run whose
        records are damaged is left out: it cannot continue, and blocks no other.
        """
        found: dict[str, LiveTodo] = {}
        if self._is_other(ecosystem):
            return found
        for run_id, status, states in self._live_runs():
            in_state = {
                state: LiveTodo(run_id=run_id, run_status=status, state=state)
                for state in TodoState
                if _excludes_others(state, status)
            }
            for todo, state in states.items():
                one = in_state.get(state)
                if one and (todo not in found or one.rank >= found[todo].rank):
                    found[todo] = one
        return found | self._with_facts({t: one for t, one in found.items() if one.state in BEGUN})

    def _live_runs(self) -> Iterator[tuple[str, RunStatus, Mapping[str, TodoState]]]:
        """Yield the live runs, oldest first, with the states of their todos."""
        runs = self._redis.zrange(self._keys.live, 0, -1)
        with self._redis.pipeline(transaction=False) as pipeline:
            for run_id in runs:
                pipeline.hget(self._keys.run(run_id).meta, "status")
                pipeline.hgetall(self._keys.run(run_id).state)
            answers = pipeline.execute(raise_on_error=False)
        for run_id, status, states in zip(runs, answers[::2], answers[1::2], strict=True):
            try:
                yield run_id, RunStatus(status), self._states_of(run_id, status, states)
            except (CoordinationError, *DAMAGE):
                continue

    def _states_of(self, run_id: str, status: str, states: Any) -> Mapping[str, TodoState]:
        # a compensation goes through the states of a todo: only the facts distinguish the two
        if status == RunStatus.ROLLING_BACK:
            return {todo.id: todo.state for todo in self._reader.read(run_id).todos}
        return {todo: TodoState(state) for todo, state in states.items()}

    def _with_facts(self, in_hand: Mapping[str, LiveTodo]) -> dict[str, LiveTodo]:
        facts = dict(self._facts_of(in_hand))
        running = {
            t: facts[t]["worker"] or "" for t, one in in_hand.items() if one.state is TodoState.RUNNING
        }
        silent = self._registry.silent(filter(None, running.values())) if running else {}
        return {
            todo: one.model_copy(
                update={
                    "worker": facts[todo]["worker"],
                    "since": _time(facts[todo]["since"]),
                    "waits_for": facts[todo]["waits_for"] or silent.get(running.get(todo, "")),
                }
            )
            for todo, one in in_hand.items()
        }

    def _facts_of(self, in_hand: Mapping[str, LiveTodo]) -> Iterator[tuple[str, Mapping[str, str | None]]]:
        todos = list(in_hand.items())
        for start in range(0, len(todos), TODOS_AT_ONCE):
            batch = todos[start : start + TODOS_AT_ONCE]
            with self._redis.pipeline(transaction=False) as pipeline:
                for todo, one in batch:
                    pipeline.hmget(self._keys.run(one.run_id).facts, [f"{todo} {fact}" for fact in FACTS])
                answers = pipeline.execute()
            for (todo, _), values in zip(batch, answers, strict=True):
                yield todo, dict(zip(FACTS, values, strict=True))

    def _newest_with(self, todo_id: str, passed: Collection[str]) -> str | None:
        newest = self._redis.zrevrange(self._keys.runs, 0, RUNS_SEARCHED - 1)
        runs = [run_id for run_id in newest if run_id not in passed]
        with self._redis.pipeline(transaction=False) as pipeline:
            for run_id in runs:
                pipeline.hexists(self._keys.run(run_id).state, todo_id)
            pipeline.zrange(self._keys.live, 0, -1)
            *has, live = pipeline.execute(raise_on_error=False)
        found = [run_id for run_id, there in zip(runs, has, strict=True) if there is True]
        return next((run_id for run_id in found if run_id in live), next(iter(found), None))

    def _is_other(self, ecosystem: str) -> bool:
        owner = self._registry.ecosystem() if ecosystem else ""
        return bool(owner) and owner != ecosystem

    def asking(self) -> list[Asked]:
        """Return the todos and milestones that wait for a person, longest first."""
        found = [*asking(self._redis, self._keys), *self._not_undone()]
        return sorted(found, key=lambda asked: asked.since or "")

    def _not_undone(self) -> Iterator[Asked]:
        """Yield failed compensations, which a person tries again or accepts."""
        for run_id in self._reader.half_undone():
            try:
                todos = self._reader.read(run_id).only([TodoState.COMPENSATION_FAILED]).todos
            except (NotFound, Unreadable):  # it was forgotten meanwhile, or is damaged
                continue
            for todo in todos:
                waits_for = f"its compensation failed: coord rollback {run_id}"
                yield Asked(todo=todo.id, run_id=run_id, waits_for=waits_for, since=todo.since)


def find_runs_of(redis: Redis, keys: Keys, todo: str, runs: Iterable[str]) -> list[DecidableTodo]:
    """Return the todo in each run that has it, in the order of `runs`; one round trip."""
    return [found for _, found in _read_decidable(redis, keys, [(run_id, todo) for run_id in runs])]


def asking(redis: Redis, keys: Keys) -> list[Asked]:
    """Return every todo of a live run that waits for a person; three round trips. One that soaks goes on by
    itself.
    """
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
    return [
        Asked(todo=todo, run_id=one.run_id, waits_for=one.waits_for or "", since=one.since)
        for todo, one in _read_decidable(redis, keys, parked)
        if one.asks and not one.soak
    ]


def _read_decidable(
    redis: Redis, keys: Keys, pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, DecidableTodo]]:
    """Yield the todos that exist in their runs. `pairs`: runs and todos."""
    with redis.pipeline(transaction=False) as pipeline:
        for run_id, todo in pairs:
            own = keys.run(run_id)
            pipeline.hget(own.state, todo)
            pipeline.hget(own.descriptor, todo)
            pipeline.hget(own.meta, "status")
            pipeline.hmget(own.facts, [f"{todo} {fact}" for fact in DECISION_FACTS])
        answers = iter(pipeline.execute())
    for (run_id, todo), state, descriptor, status, values in zip(
        pairs, answers, answers, answers, answers, strict=True
    ):
        if state is not None:
            facts = dict(zip(DECISION_FACTS, values, strict=True))
            times = {name: _time(facts[name]) for name in ("since", "decided_at")}
            manual = Descriptor.parse(descriptor).kind == MANUAL
            yield (
                todo,
                DecidableTodo(run_id=run_id, run_status=status, state=state, manual=manual, **facts | times),
            )


def _time(at_ms: str | None) -> str | None:
    return iso(at_ms) if at_ms and re.fullmatch(r"[0-9]{1,14}", at_ms) else None


def _excludes_others(state: TodoState, status: RunStatus) -> bool:
    """Return whether the run keeps others from beginning the todo: it is not over, or not undone yet."""
    if status is RunStatus.ROLLING_BACK:
        return state is not TodoState.COMPENSATED
    return not state.ended or state is TodoState.SUCCEEDED
