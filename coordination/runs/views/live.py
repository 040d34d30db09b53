"""Read the current state of runs, locks and breakers, for operations on the file and for completion."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from redis import Redis

from coordination.backend.keys import Keys
from coordination.planner.hours import Group
from coordination.runs.change_sets.records import TODO, parse_change_set
from coordination.runs.views.records import RunView
from coordination.runs.views.run_list import ANY_RUN, RunFilters, last_run, newest
from coordination.runs.views.run_view import LAST, RunReader
from coordination.runs.views.todos_in_runs import TodosInRuns
from coordination.runs.worker_registry import WorkerRegistry

if TYPE_CHECKING:
    from coordination.breakers.records import Breaker, Reset


class Live:
    """State of runs, locks and breakers; only reads. Methods raise redis-py's errors."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._reader = RunReader(redis, keys)
        self._registry = WorkerRegistry(redis, keys)
        self.todos = TodosInRuns(redis, keys)

    def slots(self, repos: Collection[str]) -> int:
        """Return the number of todos that living workers of some of these repositories execute at once."""
        return sum(worker.jobs for worker in self._registry.serving(repos))

    def ids(self) -> set[str]:
        """Return the ids of change sets and of the todos that they have results of, and the plans of runs."""
        sets = self._redis.smembers(self._keys.change_sets)
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in sets:
                pipeline.hkeys(self._keys.changes(name))
            for run in self._redis.zrange(self._keys.runs, 0, -1):
                pipeline.hget(self._keys.run(run).meta, "plan_id")
            answers = pipeline.execute()
        fields = (field for fields in answers[: len(sets)] for field in fields)
        results = (field.partition(" ")[2] for field in fields if field.startswith(f"{TODO} "))
        plans = (plan.rpartition(":")[2] for plan in answers[len(sets) :] if plan)
        return {*sets, *results, *plans}

    def unlanded(self, names: Collection[str]) -> set[str]:
        """Return those of these ids whose change sets have work that has not landed. Raises Unreadable."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(self._keys.changes(name))
            answers = pipeline.execute()
        found = (parse_change_set(name, raw) for name, raw in zip(names, answers, strict=True))
        return {one.id for one in found if one is not None and one.open}

    def learned(self, groups: Collection[Group]) -> Mapping[Group, float]:
        """Return the median hours of each group with known durations."""
        return self._reader.learned(groups)

    def change_sets(self) -> tuple[str, ...]:
        """Return the ids of all change sets."""
        return tuple(sorted(self._redis.smembers(self._keys.change_sets)))

    def held_locks(self) -> Mapping[str, str]:
        """Return lock or `resource:name` → its holder, for locks that no run holds: those that can be
        released by force.
        """
        from coordination.locks import LockManager
        from coordination.locks.listing import LOCK

        with closing(LockManager(self._redis, self._keys.namespace)) as locks:
            releasable = [
                lock
                for lock in locks.list(resources=True)
                if lock.holders and all(holder.kind != "todo" for holder in lock.holders)
            ]
        return {lock.name if lock.kind == LOCK else lock.what: lock.holders[0].who for lock in releasable}

    def breakers(self) -> tuple[Breaker, ...]:
        """Return the breakers that are not at rest."""
        from coordination.breakers.manager import BreakerManager

        with closing(BreakerManager(self._redis, self._keys.namespace)) as breakers:
            return breakers.list()

    def breaker_resets(self, limit: int) -> tuple[Reset, ...]:
        from coordination.breakers.manager import BreakerManager

        with closing(BreakerManager(self._redis, self._keys.namespace)) as breakers:
            return breakers.resets(limit)

    def messages_for(self, repo: str) -> int:
        """Return the number of messages for the repository, waiting or in flight. Raise NotFound where there
        was never one.
        """
        from coordination.messages import MessageBus

        inbox = MessageBus(self._redis, self._keys.namespace).standing(f"repo:{repo}")
        return inbox.waiting + inbox.in_hand

    def newest_runs(self, limit: int = 20) -> Mapping[str, str]:
        """Return run → its plan and status, for a choice by a person."""
        last = last_run(self._redis, self._keys, ANY_RUN)
        if last is None:
            return {}
        ids = list(dict.fromkeys([last, *newest(self._redis, self._keys, RunFilters(), limit)]))
        with self._redis.pipeline(transaction=False) as pipeline:
            for run_id in ids:
                pipeline.hmget(self._keys.run(run_id).meta, ["plan_id", "status"])
            facts = pipeline.execute()
        described = {run_id: f"{plan}, {status}" for run_id, (plan, status) in zip(ids, facts, strict=True)}
        return {LAST: f"{last}: {described[last]}", **described}

    def last_run_of(self, plan: str) -> RunView | None:
        """Return the newest run of a plan, without its todos; None where none of the newest runs is one."""
        return next(iter(self._reader.list(1, RunFilters(plans=frozenset({plan})))), None)
