"""Join the todos of the file with the state of runs, locks and breakers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing

from pydantic import BaseModel, ConfigDict
from redis import Redis

from coordination.backend.keys import Keys
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Breaker, Reset
from coordination.errors import NotFound, Unreadable
from coordination.locks import LockManager
from coordination.locks.listing import LOCK
from coordination.messages import MessageBus
from coordination.planner.hours import Group
from coordination.runs.presence import Presence
from coordination.runs.records import RunView, TodoState
from coordination.runs.views.durations import learned
from coordination.runs.views.live_todos import LOOKED_AT, LiveTodo, LiveTodos, TodoInRun
from coordination.runs.views.run_view import LAST, RunReader
from coordination.runs.views.todo_view import iso
from coordination.runs.views.waiting_todos import asking


class Asked(BaseModel):
    """A todo or milestone that waits for a person's decision."""

    model_config = ConfigDict(frozen=True)

    todo: str
    run_id: str
    waits_for: str
    since: str | None = None


class Live:
    """State of runs, locks and breakers; only reads. Methods raise redis-py's errors."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._reader = RunReader(redis, keys)
        self._todos = LiveTodos(redis, keys, self._reader)

    def todo(self, todo_id: str, ecosystem: str = "") -> LiveTodo | None:
        """Return the todo in the newest run that has it, None if none of the last hundred has it, or
        another ecosystem than this one owns the namespace.
        """
        return None if self._is_other(ecosystem) else self._todos.newest(todo_id)

    def executing(self, ecosystem: str = "") -> Mapping[str, TodoInRun]:
        """Return the todos that live runs have executed, execute, or will execute; none if another ecosystem
        than this one owns the namespace: its todos may have the same ids.
        """
        return {} if self._is_other(ecosystem) else self._todos.all()

    def _is_other(self, ecosystem: str) -> bool:
        owner = Presence(self._redis, self._keys).ecosystem() if ecosystem else ""
        return bool(owner) and owner != ecosystem

    def learned(self, groups: Collection[Group]) -> Mapping[Group, float]:
        """Return the median hours of each group with known durations."""
        return learned(self._redis, self._keys, groups)

    def asking(self) -> list[Asked]:
        """Return the todos and milestones that wait for a person, longest first."""
        found = [
            Asked(todo=todo, run_id=one.run, waits_for=one.waits_for or "", since=iso(one.since))
            for todo, one in asking(self._redis, self._keys)
        ]
        return sorted([*found, *self._not_undone()], key=lambda asked: asked.since or "")

    def _not_undone(self) -> Iterator[Asked]:
        """Yield failed compensations, which a person tries again or accepts."""
        for run_id in self._reader.half_undone():
            try:
                todos = self._reader.read(run_id).only([TodoState.COMPENSATION_FAILED]).todos
            except (NotFound, Unreadable):  # it was forgotten meanwhile, or is damaged
                continue
            for todo in todos:
                words = f"its compensation failed: coord rollback {run_id}"
                yield Asked(todo=todo.id, run_id=run_id, waits_for=words, since=todo.since)

    def change_sets(self) -> tuple[str, ...]:
        """Return the ids of all change sets."""
        return tuple(sorted(self._redis.smembers(self._keys.change_sets)))

    def held_locks(self) -> Mapping[str, str]:
        """Return lock or `resource:name` → its holder, for locks that no run holds: those that can be
        released by force.
        """
        with closing(LockManager(self._redis, self._keys.namespace)) as locks:
            held = [
                h
                for h in locks.list(resources=True)
                if h.holders and all(o.kind != "todo" for o in h.holders)
            ]
        return {h.name if h.kind == LOCK else h.what: h.holders[0].who for h in held}

    def breakers(self) -> tuple[Breaker, ...]:
        """Return the breakers that are not at rest."""
        with closing(BreakerManager(self._redis, self._keys.namespace)) as breakers:
            return breakers.list()

    def breaker_resets(self, limit: int) -> tuple[Reset, ...]:
        with closing(BreakerManager(self._redis, self._keys.namespace)) as breakers:
            return breakers.resets(limit)

    def messages_for(self, repo: str) -> int:
        """Return the number of messages for the repository, waiting or in flight. Raise NotFound where there
        was never one.
        """
        inbox = MessageBus(self._redis, self._keys.namespace).standing(f"repo:{repo}")
        return inbox.waiting + inbox.in_hand

    def newest_runs(self, limit: int = 20) -> Mapping[str, str]:
        """Return run → a description in a few words, for a choice by a person."""
        ids = self._redis.zrevrange(self._keys.runs, 0, limit - 1)
        with self._redis.pipeline(transaction=False) as pipeline:
            for run_id in ids:
                pipeline.hmget(self._keys.run(run_id).meta, ["plan_id", "status"])
            facts = pipeline.execute()
        words = {run_id: f"{plan}, {status}" for run_id, (plan, status) in zip(ids, facts, strict=True)}
        return {LAST: f"{ids[0]}: {words[ids[0]]}", **words} if ids else {}

    def last_run_of(self, plan: str) -> RunView | None:
        """Return the newest run of a plan, without its todos; None where none of the newest runs is one."""
        return next((run for run in self._reader.list(LOOKED_AT) if run.plan_id == plan), None)
