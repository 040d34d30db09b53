"""Read the progress of one run. The part of the run that never changes is read once: later readings of a
follower transfer only the states of the todos, and the facts of those that run or wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redis import Redis

from coordination.backend.keys import Keys, resource
from coordination.planner.remaining import SIMULATED, Expected
from coordination.planner.schedule import Supply
from coordination.runs.records import LIVE, Descriptor, RunBrief, TodoState
from coordination.runs.views.progress import COUNTERS, Moment, RunOutline, ended, only_percent, progress_of
from coordination.runs.views.records import NoEta, Progress, RunView
from coordination.runs.views.run_view import RunReader, readable
from coordination.runs.views.todo_view import BEGUN, TODOS_AT_ONCE
from coordination.runs.worker_registry import WorkerRegistry

RESOURCE = resource("")


class ProgressReader:
    def __init__(self, redis: Redis, keys: Keys, run_id: str) -> None:
        self._redis = redis
        self._keys = keys
        self._run_id = run_id
        self._outline: RunOutline | None = None
        self._highest = (False, 0.0)
        """At the last reading: True if the run was being rolled back, and the highest percentage since."""

    def read(self, view: RunView | None = None, *, at_most: int | None = None) -> Progress:
        """Return the progress; its percentage is never less than in an earlier reading, unless a rollback has
        begun since.

        `view`: the run with all its todos, if it was read already; `at_most`: number of todos beyond which
        only the percentage is read. Raise NotFound, Unreadable.
        """
        found = self._read(view, at_most)
        rolling_back = found.no_eta is NoEta.ROLLING_BACK
        highest = self._highest[1] if self._highest[0] == rolling_back else 0.0
        self._highest = (rolling_back, max(found.percent, highest))
        return found.model_copy(update={"percent": self._highest[1]})

    def with_progress(self, view: RunView, *, complete: bool) -> RunView:
        """Return a view with the run's progress. `complete`: it has all todos."""
        return view.model_copy(update={"progress": self.read(view if complete else None)})

    def _read(self, view: RunView | None, at_most: int | None) -> Progress:
        runs = RunReader(self._redis, self._keys)
        run = view or runs.read(self._run_id, todos=False)
        if run.status not in LIVE:
            return ended(run)
        with readable(self._run_id):
            counters, now_ms = self._counters()
            if at_most is not None and sum(run.counts.values()) > at_most:
                return only_percent(run, counters, now_ms)
            outline = self._outline = self._outline or self._read_outline()
            states = self._states(view)
            todos = (
                view.todos if view else runs.read(self._run_id, only=_in_hand(states)).todos if states else ()
            )
            return progress_of(
                outline,
                Moment(
                    run=run,
                    states=states,
                    in_hand=[todo for todo in todos if todo.state in BEGUN],
                    counters=counters,
                    now_ms=now_ms,
                    slots=self._slots(outline),
                ),
            )

    def _counters(self) -> tuple[Mapping[str, str], int]:
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hmget(self._keys.run(self._run_id).meta, COUNTERS)
            pipeline.time()
            values, (seconds, micros) = pipeline.execute()
        counters = {name: value for name, value in zip(COUNTERS, values, strict=True) if value is not None}
        return counters, int(seconds) * 1000 + int(micros) // 1000

    def _states(self, view: RunView | None) -> Mapping[str, TodoState]:
        if view is not None:
            return {todo.id: todo.state for todo in view.todos}
        states = self._redis.hgetall(self._keys.run(self._run_id).state)
        return {todo: TodoState(state) for todo, state in states.items()}

    def _slots(self, outline: RunOutline) -> int | None:
        """Return how many todos the living workers of these repositories execute at once; None without such
        workers.
        """
        workers = WorkerRegistry(self._redis, self._keys).workers()
        return sum(worker.jobs for worker in workers if not outline.repos.isdisjoint(worker.repos)) or None

    def _read_outline(self) -> RunOutline:
        keys = self._keys.run(self._run_id)
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hmget(keys.meta, "brief", "max_parallel")
            pipeline.hgetall(keys.descriptor)
            pipeline.hgetall(self._keys.locks.capacities)
            (brief_json, max_parallel), descriptors, capacities = pipeline.execute()
        brief = RunBrief.model_validate_json(brief_json)
        parsed = {todo: Descriptor.parse(descriptors[todo]) for todo in brief.predecessors}
        expected = {todo: Expected.parse(text) for todo, text in self._fact("expected", parsed)}
        soaks = {todo for todo, soak in self._fact("soak", parsed) if soak}
        gated = {todo for todo, gate in self._fact("gate", parsed) if gate} - soaks
        repos = frozenset(descriptor.repo for descriptor in parsed.values())
        return RunOutline(
            predecessors=brief.predecessors,
            descriptors=parsed,
            expected={todo: known for todo, known in expected.items() if known is not None},
            soaks=frozenset(soaks),
            asking=frozenset(
                todo for todo, descriptor in parsed.items() if todo in gated or descriptor.kind == "manual"
            ),
            supply=_supply(parsed, capacities),
            repos=repos,
            slots=min(len(repos), int(max_parallel or 0) or len(repos)),
        )

    def _fact(self, name: str, todos: Iterable[str]) -> Iterable[tuple[str, str | None]]:
        names = list(todos)
        for start in range(0, len(names), TODOS_AT_ONCE):
            part = names[start : start + TODOS_AT_ONCE]
            fields = [f"{todo} {name}" for todo in part]
            yield from zip(part, self._redis.hmget(self._keys.run(self._run_id).facts, fields), strict=True)


def read_all(redis: Redis, keys: Keys, runs: Iterable[RunView]) -> list[RunView]:
    """Return runs of a list with their progress; of large ones only the percentage."""
    return [
        run.model_copy(
            update={"progress": ProgressReader(redis, keys, run.run_id).read(at_most=SIMULATED)}
            if run.status in LIVE
            else {"progress": ended(run)}
        )
        for run in runs
    ]


def _in_hand(states: Mapping[str, TodoState]) -> list[str]:
    return [todo for todo, state in states.items() if state in BEGUN]


def _supply(descriptors: Mapping[str, Descriptor], capacities: Mapping[str, str]) -> Supply:
    declared = {
        name.removeprefix(RESOURCE): int(capacity)
        for name, capacity in capacities.items()
        if name.startswith(RESOURCE)
    }
    needs = {}
    for todo, descriptor in descriptors.items():
        amounts = dict(_needs(descriptor.locks))
        if limited := {name: min(n, declared[name]) for name, n in amounts.items() if name in declared}:
            needs[todo] = limited
    return Supply(capacities=declared, needs=needs)


def _needs(locks: str) -> Iterable[tuple[str, int]]:
    """Yield the resources that a todo holds while it runs, each with the amount."""
    for line in locks.split("\n"):
        amounts, _, name = line.partition(" ")
        if name.startswith(RESOURCE):
            yield name.removeprefix(RESOURCE), int(amounts.partition("/")[0])
