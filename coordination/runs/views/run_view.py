"""Read a run in one shape for `show-run --json`, `sweep --json`, people and the agents' tools."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import ResponseError

from coordination.backend.keys import Keys, repo_slot, split_member
from coordination.branches import run_branch
from coordination.errors import NotFound, Unreadable
from coordination.models import OWN_BRANCHES
from coordination.planner.hours import Group, medians
from coordination.planner.schedule import bound
from coordination.runs.change_sets.records import TAKEN_OVER
from coordination.runs.logs import last_lines, shown
from coordination.runs.records import (
    BRANCH_PREFIX,
    TAKES_UP,
    Descriptor,
    RunBrief,
    RunStatus,
    TodoState,
    changes_nothing,
)
from coordination.runs.run_kinds import is_landing, only_looks
from coordination.runs.views.levels_and_waves import waves_of
from coordination.runs.views.records import RunView, TodoView, WaveView
from coordination.runs.views.run_list import ANY_RUN, ActsOn, RunFilters, last_run, newest
from coordination.runs.views.todo_view import (
    FACTS,
    FACTS_OF_UNDOING,
    facts_of,
    iso,
    raw_records,
    raw_records_of,
    seconds,
    view_of_todo,
)
from coordination.runs.worker_registry import WorkerRegistry
from coordination.text import did_you_mean

LAST = "last"
ANY = RunFilters()
logger = logging.getLogger(__name__)
TAIL_PIECES = 8
PIECES_OF_LAST_LINE = 2
"""Pieces that are read for the last line: the newest may begin in the middle of it."""
META = (
    "plan_id", "status", "strategy", "switched", "on_failure", "actor", "rolled_back_by", "cancelled",
    "paused", "rollback", "stuck", "timeout_ms", "timed_out", "file", "unwritten",
    "started_at", "finished_at", "break_glass", "lay_still_ms", TAKES_UP, "change_set", "takes_over",
    "cached", "max_parallel", "overrides", BRANCH_PREFIX,
    *(f"n.{state}" for state in TodoState),
)  # fmt: skip
"""The fields of `meta` that are shown; not the brief, which is megabytes for a large run."""


DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, OSError)
"""Errors raised by reading damaged records. OSError: a time that the C library cannot represent (EOVERFLOW);
Redis raises none.
"""


def branch_of_run(redis: Redis, keys: Keys, run_id: str) -> str:
    """Return the branch of a run."""
    return run_branch(run_id, redis.hget(keys.run(run_id).meta, BRANCH_PREFIX) or OWN_BRANCHES)


UNDONE = (RunStatus.ROLLING_BACK, RunStatus.ROLLED_BACK, RunStatus.ROLLBACK_FAILED)
"""Statuses of a run whose todos are counted as they are shown: a compensation goes through other states."""


@contextmanager
def readable(run_id: str) -> Iterator[None]:
    """Raise Unreadable where the records of the run are damaged or incomplete."""
    try:
        yield
    except NotFound:
        raise
    except DAMAGE as error:
        problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise Unreadable(
            f"the records of run {run_id} in Redis are damaged: {problem}",
            f"other runs continue; see what is left of it: coord logs {run_id}, "
            f"and the branch of its repositories that ends in {run_id}",
        ) from error


class RunReader:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def resolve(self, run: str, acts_on: ActsOn = ANY_RUN) -> str:
        """Return the id of `last`, or of the only run whose id begins or ends so. Raise NotFound.

        `acts_on`: the runs among which `last` is the newest.
        """
        if run_id := self._known(run, acts_on):
            return run_id
        newest_first = self._redis.zrevrange(self._keys.runs, 0, -1)
        matches = [r for r in newest_first if r.startswith(run) or r.endswith(run)]
        if len(matches) == 1:
            return str(matches[0])
        suggestion = "" if run == LAST else did_you_mean(run, [LAST, *newest_first])
        if not newest_first:
            raise NotFound(f"there is no run {run!r}: there are no runs", "start one: coord sweep PLAN")
        message = (
            f"run {run!r} is ambiguous: {', '.join(matches[:5])}"
            if matches
            else f"there is no run {run!r}{suggestion}"
        )
        raise NotFound(message, "list the runs: coord list-runs")

    def _known(self, run: str, acts_on: ActsOn) -> str | None:
        """Return the id if it can be found without reading the list of all runs."""
        if run != LAST:
            return run if self._redis.zscore(self._keys.runs, run) is not None else None
        return last_run(self._redis, self._keys, acts_on)

    def list(self, limit: int = 50, filters: RunFilters = ANY) -> list[RunView]:
        """Return the newest runs that meet the filters, without their todos."""
        ids = newest(self._redis, self._keys, filters, limit)
        with self._redis.pipeline(transaction=False) as pipeline:
            for run_id in ids:
                pipeline.hmget(self._keys.run(run_id).meta, META)
            found = pipeline.execute(raise_on_error=False)
        return [view for one in zip(ids, found, strict=True) if (view := self._in_list(*one))]

    def _in_list(self, run_id: str, values: Iterable[str | None] | ResponseError) -> RunView | None:
        try:
            if isinstance(values, ResponseError):
                raise values
            return self._shown(run_id, values, todos=False)
        except (NotFound, Unreadable, ResponseError) as error:  # it must not hide the others
            logger.warning("run %s is not shown: %s", run_id, str(error).partition("\n")[0])
            return None

    def learned(self, groups: Collection[Group]) -> dict[Group, float]:
        """Return the median duration of each group of similar todos in hours, in one round trip; groups
        without durations are left out.

        Each todo that succeeds records its duration in its group. The last 25 are kept, until 90 days after
        the newest; see backend/lua/run/_run_durations.lua.
        """
        if not groups:
            return {}
        with self._redis.pipeline(transaction=False) as pipeline:
            for group in groups:
                pipeline.lrange(self._keys.durations(group.repo, group.kind), 0, -1)
            answers = pipeline.execute()
        return medians({group: [int(ms) for ms in kept] for group, kept in zip(groups, answers, strict=True)})

    def half_undone(self) -> tuple[str, ...]:
        """Return the runs whose rollback failed and still waits for a person; the run that ended first comes
        first.
        """
        return tuple(self._redis.zrange(self._keys.half_undone, 0, -1))

    def status(self, run_id: str) -> RunStatus:
        status = self._redis.hget(self._keys.run(run_id).meta, "status")
        if status is None:
            raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
        with readable(run_id):
            return RunStatus(status)

    def max_parallel(self, run_id: str) -> int | None:
        """Return how many todos of a run may run at once; None without a limit of its own."""
        with readable(run_id):
            return int(self._redis.hget(self._keys.run(run_id).meta, "max_parallel") or 0) or None

    def read(self, run_id: str, *, todos: bool = True, only: Collection[str] | None = None) -> RunView:
        """Return a run. `only`: with these todos alone, without their outputs, at a cost that does not depend
        on the others.
        """
        return self._shown(
            run_id, self._redis.hmget(self._keys.run(run_id).meta, META), todos=todos, only=only
        )

    def _shown(
        self, run_id: str, values: Iterable[str | None], *, todos: bool, only: Collection[str] | None = None
    ) -> RunView:
        with readable(run_id):
            return self._view(run_id, values, todos=todos, only=only)

    def _view(
        self, run_id: str, values: Iterable[str | None], *, todos: bool, only: Collection[str] | None
    ) -> RunView:
        meta = {name: value for name, value in zip(META, values, strict=True) if value is not None}
        if not meta:
            raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
        status = RunStatus(meta["status"])
        undone = status in UNDONE
        has_all = only is None and (todos or undone)
        rows = (
            self._as_they_were(run_id, meta["plan_id"], self._todos(run_id, only)) if has_all or only else ()
        )
        tips = self._redis.hgetall(self._keys.run(run_id).tips) if only is None and todos else {}
        return RunView(
            run_id=run_id,
            plan_id=meta["plan_id"],
            status=status,
            strategy=meta["strategy"],
            switched=meta.get("switched"),
            on_failure=meta["on_failure"],
            actor=meta["actor"],
            steered_by=meta.get("rolled_back_by") or meta.get("cancelled") or meta.get("paused"),
            rollback=meta.get("rollback"),
            timeout_s=int(meta["timeout_ms"]) / 1000 if "timeout_ms" in meta else None,
            timed_out=meta.get("timed_out"),
            internal_error=meta.get("stuck"),
            unwritten=self._unwritten(run_id, meta),
            started_at=iso(meta.get("started_at")),
            finished_at=iso(meta.get("finished_at")),
            duration_s=_duration_s(meta),
            bound_s=self._bound_s(run_id, meta, rows),
            carried_from=next(iter(meta.get(TAKES_UP, "").split()), None),
            change_set=meta.get("change_set"),
            takes_over=TAKEN_OVER.validate_json(meta.get("takes_over", "[]")),
            branches=self._branches(run_id, meta, tips),
            tips=dict(sorted(tips.items())),
            break_glass=meta.get("break_glass"),
            overrides=tuple((meta.get("overrides") or "").split()),
            cached=int(meta.get("cached", 0)),
            counts=_counted(rows) if has_all and undone else _counts(meta),
            waves=self._waves(run_id, meta["plan_id"], rows, status) if todos else (),
            todos=rows if todos else (),
        )

    def _waves(
        self, run_id: str, plan_id: str, rows: Collection[TodoView], status: RunStatus
    ) -> tuple[WaveView, ...]:
        if not is_landing(plan_id) or not rows:
            return ()
        names = [todo.id for todo in rows]
        found = self._redis.hmget(self._keys.run(run_id).facts, [f"{name} expected" for name in names])
        return waves_of(plan_id, rows, dict(zip(names, found, strict=True)), ended=status.ended)

    def todo(
        self, run_id: str, todo_id: str, then: TodoState | None = None, *, undoing: bool | None = None
    ) -> TodoView:
        """Return one todo of a run in its current state or, for progress lines, in the state `then`; without
        its output.

        `undoing`: whether that state is one of its compensation; if false, facts of its compensation are left
        out.
        """
        keys = self._keys.run(run_id)
        wanted = [fact for fact in FACTS if undoing is not False or fact not in FACTS_OF_UNDOING]
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hget(keys.state, todo_id)
            pipeline.hget(keys.descriptor, todo_id)
            pipeline.hmget(keys.facts, [f"{todo_id} {fact}" for fact in wanted])
            state, descriptor, values = pipeline.execute()
        facts = {fact: value for fact, value in zip(wanted, values, strict=True) if value is not None}
        with readable(run_id):
            return view_of_todo(
                todo_id,
                TodoState(then or state),
                Descriptor.parse(descriptor),
                facts,
                None,
            )

    def branches(self, run: RunView) -> dict[str, str]:
        """Return repository → the branch with its work: that of the change set, else of the run that did it,
        an earlier one where all of it was carried over.

        Repositories in which no todo committed anything, or all was undone, are left out.
        """
        worked = [todo for todo in run.todos if _has_work(todo) and todo.started_at]
        names = [f"{todo.id} {fact}" for todo in worked for fact in ("commit", "began")]
        commits = self._redis.hmget(self._keys.run(run.run_id).facts, names) if names else []
        changed = {
            t.repo
            for t, commit, began in zip(worked, commits[::2], commits[1::2], strict=True)
            if commit != began
        }
        latest = {todo.repo: todo.run or run.run_id for todo in sorted(worked, key=_finished)}
        of_set = run.branches if run.change_set else {}
        prefix = self._redis.hget(self._keys.run(run.run_id).meta, BRANCH_PREFIX) or OWN_BRANCHES
        return {
            repo: of_set.get(repo) or run_branch(source, prefix)
            for repo, source in latest.items()
            if repo in changed
        }

    def spec_and_output(self, run_id: str, todo: str) -> tuple[str, str]:
        """Return a todo as its worker got it, and its output, as JSON; empty where Redis has none."""
        keys = self._keys.run(run_id)
        return self._redis.hget(keys.spec, todo) or "", self._redis.hget(keys.output, todo) or ""

    def commits_of(self, run_id: str, todo: TodoView) -> tuple[str, str]:
        """Return the commit at which a todo began, and the one that it made; equal where it made none, and
        empty where that is not known.
        """
        names = [f"{todo.id} {fact}" for fact in ("began", "commit")]
        began, commit = self._redis.hmget(self._keys.run(todo.run or run_id).facts, names)
        return began or "", commit or ""

    def _branches(self, run_id: str, meta: Mapping[str, str], tips: Collection[str]) -> dict[str, str]:
        """Return repository → the branch of the run's change set; without one, that of the run."""
        repos = sorted(tips)
        names: list[str | None] = [None] * len(repos)
        if (change_set := meta.get("change_set")) and repos:
            key = self._keys.changes(change_set)
            names = self._redis.hmget(key, [f"branch {repo}" for repo in repos])
        own = run_branch(run_id, meta.get(BRANCH_PREFIX, OWN_BRANCHES))
        return {repo: name or own for repo, name in zip(repos, names, strict=True)}

    def log_tail(self, run_id: str, todo_id: str, attempt: str = "") -> str:
        """Return the last pieces of the log of a todo's newest attempt; if it was undone, of the attempt
        before. `attempt`: of this one instead.
        """
        own = self._keys.run(run_id)
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xrevrange(own.log(todo_id), count=TAIL_PIECES)
            pipeline.hget(own.state, todo_id)
            pipeline.hget(own.facts, f"{todo_id} attempt")
            pieces, state, newest = pipeline.execute()
        texts = _by_attempt(pieces)
        if attempt:
            return texts.get(attempt, "")
        if state == TodoState.COMPENSATED and len(texts) > 1:
            texts.pop(newest or "", None)
        return list(texts.values())[-1] if texts else ""

    def last_lines(self, run_id: str, attempts: Mapping[str, int]) -> dict[str, str]:
        """Return todo → the last line of its output so far; without those that have written nothing.
        `attempts`: todo → its present attempt.
        """
        own = self._keys.run(run_id)
        with self._redis.pipeline(transaction=False) as pipeline:
            for todo in attempts:
                pipeline.xrevrange(own.log(todo), count=PIECES_OF_LAST_LINE)
            found = pipeline.execute()
        lines = {
            todo: last_lines(_by_attempt(pieces).get(str(attempt), ""))
            for (todo, attempt), pieces in zip(attempts.items(), found, strict=True)
        }
        return {todo: said[-1] for todo, said in lines.items() if said}

    def tasks(self, run_id: str, todos: Collection[str]) -> dict[str, str]:
        """Return todo → its task, as the run was ordered; empty where Redis has none."""
        names = list(todos)
        specs = self._redis.hmget(self._keys.run(run_id).spec, names) if names else []
        with readable(run_id):
            return {
                name: str(json.loads(spec)["todo"].get("task") or "") if spec else ""
                for name, spec in zip(names, specs, strict=True)
            }

    def _todos(self, run_id: str, only: Collection[str] | None = None) -> tuple[TodoView, ...]:
        keys = self._keys.run(run_id)
        states, descriptors, facts, outputs = (
            raw_records(self._redis, keys) if only is None else raw_records_of(self._redis, keys, only)
        )
        registry = WorkerRegistry(self._redis, self._keys)
        due = {
            Descriptor.parse(descriptors[name]).repo
            for name, state in states.items()
            if state == TodoState.DISPATCHED
        }
        busy = {
            facts.get(f"{name} worker", "") for name, state in states.items() if state == TodoState.RUNNING
        }
        now_ms = self._now_ms() if busy else None
        obstacles = (
            self._obstacles(run_id, due)
            | dict(registry.unserved(due) if due else {})
            | dict(registry.silent(busy) if busy else {})
        )
        return tuple(
            view_of_todo(
                name,
                TodoState(state),
                Descriptor.parse(descriptors[name]),
                facts_of(name, facts),
                outputs.get(name),
                obstacles,
                now_ms,
            )
            for name, state in states.items()
        )

    def _as_they_were(self, run_id: str, plan_id: str, rows: tuple[TodoView, ...]) -> tuple[TodoView, ...]:
        """Return the todos with those that only look in the state before the rollback, which undoes nothing
        of them.
        """
        undone = [row.id for row in rows if row.state is TodoState.COMPENSATED and row.was]
        specs = self._redis.hmget(self._keys.run(run_id).spec, undone) if undone else []
        looks = {
            name
            for name, spec in zip(undone, specs, strict=True)
            if only_looks(plan_id, name) or (spec and changes_nothing(spec))
        }
        return tuple(row.model_copy(update={"state": row.was}) if row.id in looks else row for row in rows)

    def _now_ms(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _unwritten(self, run_id: str, meta: Mapping[str, str]) -> str | None:
        """Return why the results are not in the file, as long as they are not."""
        if "unwritten" not in meta:
            return None
        listed = self._redis.zscore(self._keys.unwritten(meta.get("file", "")), run_id)
        return None if listed is None else meta["unwritten"]

    def _bound_s(self, run_id: str, meta: Mapping[str, str], todos: tuple[TodoView, ...]) -> float | None:
        durations = {
            t.id: t.duration_s
            for t in todos
            if t.finished_at is not None and t.duration_s is not None and t.run is None
        }
        if not durations:
            return None
        brief = RunBrief.model_validate_json(self._redis.hget(self._keys.run(run_id).meta, "brief"))
        predecessors = {
            t: tuple(p for p in before if p in durations)
            for t, before in brief.predecessors.items()
            if t in durations
        }
        slots = int(meta["max_parallel"]) or len({brief.repo_of[t] for t in durations})
        return round(bound(durations, predecessors, brief.repo_of, slots), 3)

    def _obstacles(self, run_id: str, due: Iterable[str]) -> dict[str, str]:
        """Return repository → the other run that works in it, as a wait reason; a step sees one run only."""
        repos = sorted(due)
        with self._redis.pipeline(transaction=False) as pipeline:
            for repo in repos:
                pipeline.zrange(self._keys.locks.shares(repo_slot(repo)), 0, -1)
            shares = pipeline.execute()
        found = {
            repo: split_member(share.partition(" ")[2])[0]
            for repo, all_of in zip(repos, shares, strict=True)
            for share in all_of
        }
        return {
            repo: f"repository {repo}, in use by {f'run {other}' if other else 'another process'}"
            for repo, other in found.items()
            if other != run_id
        }


def _has_work(todo: TodoView) -> bool:
    """Return whether the work of a todo still exists."""
    return todo.state is TodoState.SUCCEEDED or (
        todo.was is TodoState.SUCCEEDED and todo.state is not TodoState.COMPENSATED
    )


def _counts(meta: Mapping[str, str]) -> dict[str, int]:
    return {s: int(meta[f"n.{s}"]) for s in TodoState if int(meta.get(f"n.{s}", 0)) > 0}


def _counted(todos: Iterable[TodoView]) -> dict[str, int]:
    counts = Counter(todo.state for todo in todos)
    return {state: counts[state] for state in TodoState if counts[state]}


def _duration_s(meta: Mapping[str, str]) -> float | None:
    """Return how long the run was active: the time between its end and a later rollback does not count."""
    whole = seconds(meta.get("started_at"), meta.get("finished_at"))
    return None if whole is None else round(whole - int(meta.get("lay_still_ms", 0)) / 1000, 3)


def _finished(todo: TodoView) -> str:
    return todo.finished_at or ""


def _by_attempt(newest_first: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    """Return attempt → the text of its pieces, the oldest first."""
    texts: dict[str, list[str]] = {}
    for _, fields in reversed(newest_first):
        texts.setdefault(fields.get("attempt", ""), []).append(shown(fields.get("text", "")))
    return {attempt: "".join(pieces) for attempt, pieces in texts.items()}
