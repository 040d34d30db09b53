"""Write the results of a run into the file, and record which were written: the fact `filed` of a todo,
`completed` or `pending`.

A run knows the file from which it was submitted by a digest of host and path. When it ends, it is listed for
that file until a process has written its results there: the one that follows the run, `coord run sync`, or a
worker on that host (workers/file_services.py).

With the fact `filed` a rollback sets a todo that it undoes to pending again, even if a person has edited its
hours since, and leaves a todo that a person completed. The hash `commits`, by which a sweep looks for the
results of completed todos (`submission/refusals.py`), keeps the entry of an undone todo until the file says
pending: while the file still says completed, because nobody wrote to it or a person did, a sweep is refused.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from redis.client import Pipeline

from coordination.ecosystem.changes import RunOutcome
from coordination.ecosystem.writeback import Written, write_back
from coordination.models import TodoStatus
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.records import Descriptor, RunBrief, TodoState
from coordination.runs.store import RunStore
from coordination.runs.views.records import RunView, TodoView
from coordination.runs.views.run_view import RunReader

FILE = "file"
"""Field of `meta`: the digest of the file from which the run was submitted."""
FAILURE = "unwritten"
"""Field of `meta`: why its results could not be written there."""
LONGEST_REASON = 500
FACT = "filed"
UNDONE = "undone"
"""Value in `commits` instead of a commit: the todo was undone and is completed in the file."""
WITHOUT_RESULT = (TodoState.FAILED, TodoState.SKIPPED, TodoState.CANCELLED, TodoState.COMPENSATED)
"""End states without a result of the run, although an earlier run that it retries may have had one."""


def file_id(path: Path) -> str:
    """Return the digest by which runs know a file of this machine.

    The host is the machine's own name, not COORD_HOST, which may be set for a worker and not for a command.
    """
    return hashlib.sha256(
        f"{socket.gethostname()}\0{path.resolve()}".encode(errors="surrogateescape")
    ).hexdigest()[:32]


def write_results(
    store: RunStore,
    run_id: str,
    path: Path,
    file: str,
    confirm: Callable[[RunOutcome], tuple[RunOutcome, str]] = lambda outcome: (outcome, ""),
) -> Written:
    """Write the results of a run into the file; wait for other processes that write to it. `file`: its
    digest. `confirm` returns the part of the results that may be written, and the reason why that is not all.

    Raise NotFound, Unreadable, and what `ecosystem.editing.edit` raises.
    """
    reader = RunReader(store.redis, store.keys)
    ended_at = store.redis.zscore(store.keys.unwritten(file), run_id)
    refused = ""

    def outcome() -> RunOutcome:
        nonlocal refused
        found, refused = confirm(file_outcome(store, reader.read(run_id)))
        return found

    written = write_back(path, outcome, datetime.now(UTC), run_id)
    keep_filings(store, run_id, written.completed, written.reopened, written.left)
    if ended_at is not None:
        _unlist(store, run_id, file, ended_at)
    if refused:
        keep_failure(store, run_id, refused)
    return replace(written, refused=refused)


def keep_failure(store: RunStore, run_id: str, reason: str) -> None:
    """Keep why results of the run are not in the file, for people who look at it."""
    store.redis.hset(store.keys.run(run_id).meta, FAILURE, reason[:LONGEST_REASON])


def _unlist(store: RunStore, run_id: str, file: str, ended_at: float) -> None:
    """Remove the run from the list of the file, unless it has ended again since, by a rollback."""
    key = store.keys.unwritten(file)

    def take(pipeline: Pipeline) -> None:
        same = pipeline.zscore(key, run_id) == ended_at
        pipeline.multi()
        if same:
            pipeline.zrem(key, run_id)
            pipeline.hdel(store.keys.run(run_id).meta, FAILURE)

    store.redis.transaction(take, key)


def file_outcome(store: RunStore, run: RunView) -> RunOutcome:
    """Return the changes that a run makes to the file; none for a run of a recurring plan."""
    brief = _brief_of(store, run.run_id)
    if brief and brief.recurring:
        return RunOutcome(plan=run.plan_id, succeeded={}, undone={})
    succeeded = {
        t.id: _hours(t) for t in run.todos if t.state is TodoState.SUCCEEDED and t.repo != MILESTONE_REPO
    }
    criteria = brief.criteria if brief else {}
    for check in criteria.keys() - succeeded.keys():
        succeeded.pop(criteria[check], None)
    approved = [t for t in run.todos if t.state is TodoState.SUCCEEDED and t.repo == MILESTONE_REPO]
    undone = {
        t.id: _hours(t)
        for t in run.todos
        if t.state is TodoState.COMPENSATED and t.was is TodoState.SUCCEEDED
    }
    filed = filings(store, run.run_id, [t.id for t in run.todos if t.state in WITHOUT_RESULT])
    undone |= {todo: undone.get(todo) for todo, status in filed.items() if status and run.status.ended}
    # in a rollback the remaining results are from another run, or are still to be undone
    back = run.rollback is not None
    return RunOutcome(
        plan=run.plan_id,
        succeeded={} if back else succeeded,
        undone=undone,
        filed=frozenset(todo for todo in undone if filed[todo] == TodoStatus.COMPLETED),
        reopened=frozenset(todo for todo in undone if filed[todo] == TodoStatus.PENDING),
        reached=frozenset(t.id for t in approved if not back),
        lost=frozenset(t.id for t in approved if back and t.run is None),
    )


def _hours(todo: TodoView) -> float | None:
    return None if todo.cached else (todo.duration_s or 0.0) / 3600


def filings(store: RunStore, run_id: str, todos: Sequence[str]) -> Mapping[str, str]:
    """Return todo → the status that was written last, by the run or one that it retries; empty if unknown."""
    found = dict.fromkeys(todos, "")
    for run in reversed(_run_and_retried(store, run_id)) if todos else ():
        values = store.redis.hmget(store.keys.run(run).facts, [f"{todo} {FACT}" for todo in todos])
        found |= {todo: status for todo, status in zip(todos, values, strict=True) if status}
    return found


def keep_filings(
    store: RunStore, run_id: str, completed: Collection[str], reopened: Collection[str], left: Collection[str]
) -> None:
    """Record the statuses that were written to the file. `left`: undone todos still completed there."""
    if not (completed or reopened or left):
        return
    facts = dict.fromkeys((f"{todo} {FACT}" for todo in completed), TodoStatus.COMPLETED.value)
    facts |= dict.fromkeys((f"{todo} {FACT}" for todo in reopened), TodoStatus.PENDING.value)
    if facts:
        store.redis.hset(store.keys.run(run_id).facts, mapping=facts)
    runs = _run_and_retried(store, run_id)
    for todo in reopened:
        kept = str(store.redis.hget(store.keys.commits, todo) or "").split()
        if kept[1:2] and kept[1] in runs:  # recorded by one of these runs: no later run has done it
            store.redis.hdel(store.keys.commits, todo)
    stored = store.redis.hmget(store.keys.run(run_id).descriptor, list(left)) if left else []
    for todo, descriptor in zip(left, stored, strict=True):
        repo = Descriptor.parse(str(descriptor)).repo
        store.redis.hsetnx(store.keys.commits, todo, f"{UNDONE} {run_id} {repo}")


def _run_and_retried(store: RunStore, run_id: str) -> tuple[str, ...]:
    """Return the run, the run that it retries, and so on."""
    brief = _brief_of(store, run_id)
    return (run_id, *(brief.lineage.takes_up if brief else ()))


def _brief_of(store: RunStore, run_id: str) -> RunBrief | None:
    text = store.brief_json(run_id)
    return RunBrief.model_validate_json(text) if text else None
