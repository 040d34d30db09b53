"""Tools on runs, logs, checkpoints and approvals. A run continues when the client leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, Field

from coordination.api import LAST, NamedCheckpoint, RunStatus, RunView, Selectors, TodoState
from coordination.errors import Conflict
from coordination.mcp.answers import CutRun, cut
from coordination.mcp.declaration import (
    AnyOf,
    AtOnce,
    Items,
    Most,
    PlanName,
    RunName,
    TodoName,
    Wait,
    adds,
    carries_out,
    changes,
    reads,
    undoes,
)
from coordination.mcp.session import Session
from coordination.models import OnFailure, Strategy


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """`text` begins with a line that says what is left out before it, if anything is, and ends with one if more follows."""

    run_id: str
    todo: str | None
    text: str
    offset: int
    """Of the first character of the log that is in `text`."""
    end: int
    """Of the first one that is not any more: where to go on."""
    total: int
    """As long as the log is now."""


def excerpt(
    run_id: str, todo: str | None, pieces: Iterable[str], *, limit: int, offset: int | None
) -> Excerpt:
    """Return the log from `offset` on, or its end, which begins with a whole line where one is near."""
    log = "".join(pieces)
    start = _tail(log, limit) if offset is None else min(offset, len(log))
    end = min(start + limit, len(log))
    before = f"[coord] {start} characters before this: offset=0\n" if start else ""
    after = f"\n[coord] {len(log) - end} characters after this: offset={end}\n" if end < len(log) else ""
    text = before + log[start:end] + after
    return Excerpt(run_id=run_id, todo=todo, text=text, offset=start, end=end, total=len(log))


def _tail(log: str, limit: int) -> int:
    start = max(0, len(log) - limit)
    if start == 0 or log[start - 1] == "\n":
        return start
    line = log.find("\n", start, start + limit // 2)
    return start if line < 0 else line + 1


SHOWN = 100
"""Limit of todos of a run, unless the call asks for more."""


TimeoutS = Annotated[
    float | None, Field(gt=0, le=31_536_000, description="Stop the run after this many seconds.")
]
Accepted = Annotated[
    Items,
    Field(
        description="Completed todos whose results a person says are in the base branches in another form."
    ),
]


class RollbackPreview(BaseModel):
    run_id: str
    status: RunStatus
    todos: tuple[str, ...]
    repos: tuple[str, ...]
    helpless: tuple[str, ...]
    takes_up: tuple[str, ...]
    compensations: dict[str, str]
    branches: tuple[str, ...]


PREVIEWED = ("run_id", "status", "todos", "repos", "helpless", "takes_up", "compensations")


@carries_out("Run a plan")
def coord_sweep_plan(
    session: Session,
    plan: PlanName,
    strategy: Annotated[Strategy | None, Field(description="Default: as in the plan.")] = None,
    on_failure: Annotated[OnFailure | None, Field(description="Default: as in the plan.")] = None,
    max_parallel: AtOnce = None,
    repos: Annotated[Items, Field(description="Only todos of these repositories.")] = None,
    todos: Annotated[Items, Field(description="Only these todos.")] = None,
    no_cache: Annotated[bool, Field(description="Run todos even if they have a cached result.")] = False,
    timeout_s: TimeoutS = None,
    accept: Accepted = None,
    wait_s: Wait = 0,
) -> CutRun:
    """Start a run of the plan's open todos, in the order that their dependencies allow, and return it at once.

    The run continues independently of this session: follow it with coord_get_run(run=…, wait_s=60) until its
    status is no longer running. It begins at the tip of each repository's `branch`, and commits to
    coord/<run_id>: have that merged before the next sweep, which is refused (code 6) if a todo depends on a
    completed one whose result is not in its base branch. Todos blocked from outside the plan are skipped. Use
    coord_forecast_plan first for a preview.
    """
    wanted = Selectors(repos=repos or (), todos=todos or ())
    run = session.coord.runs.sweep(
        plan,
        wanted,
        strategy=strategy,
        on_failure=on_failure,
        max_parallel=max_parallel,
        no_cache=no_cache,
        timeout=_duration(timeout_s),
        accept=accept or (),
    )
    return cut(CutRun, session.detached(run, wait_s), SHOWN)


@carries_out("Run one todo")
def coord_execute_todo(
    session: Session, todo: TodoName, timeout_s: TimeoutS = None, accept: Accepted = None, wait_s: Wait = 0
) -> CutRun:
    """Start a run of this one todo, if it waits for nothing, and return it at once; follow it with
    coord_get_run. It is refused as coord_sweep_plan is.
    """
    run = session.coord.runs.execute(todo, timeout=_duration(timeout_s), accept=accept or ())
    return cut(CutRun, session.detached(run, wait_s), SHOWN)


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


@carries_out("Retry a run")
def coord_retry_run(
    session: Session,
    run: RunName = LAST,
    on_failure: Annotated[
        OnFailure | None, Field(description="Failure policy (default: that of the run).")
    ] = None,
    max_parallel: AtOnce = None,
    from_todos: Annotated[
        Items, Field(description="Also repeat these succeeded todos, and all todos that depend on them.")
    ] = None,
    as_it_was: Annotated[
        bool,
        Field(description="Keep the order of the run even if the file has another by now (default: refuse)."),
    ] = False,
    wait_s: Wait = 0,
) -> CutRun:
    """Start a new run of an ended run's failed todos and those blocked by them; succeeded todos are carried over.

    Correct the cause first: the todo in the ecosystem file, the code on the repository's branch, or in the
    worktree that was kept on the machine of its worker, .coord/worktrees/<run_id>/<repo>, by a commit on
    coord/<run_id>.
    """
    again = session.coord.runs.retry(
        run, on_failure=on_failure, max_parallel=max_parallel, from_=from_todos or (), as_it_was=as_it_was
    )
    return cut(CutRun, session.detached(again, wait_s), SHOWN)


@changes("Cancel a run")
def coord_cancel_run(session: Session, run: RunName, wait_s: Wait = 0) -> CutRun:
    """Cancel a run: no new todo starts, and running todos are stopped. coord_retry_run continues it as a new run."""
    found = session.coord.runs.get(run)
    found.cancel()
    return cut(CutRun, session.view(found, wait_s), SHOWN)


@undoes("Undo a run")
def coord_rollback_run(
    session: Session,
    run: RunName,
    accept: Annotated[
        Items, Field(description="Todos that could not be undone, and need not be any more.")
    ] = None,
    reason: Annotated[str, Field(description="Why that is accepted; it is recorded.")] = "",
    wait_s: Wait = 0,
) -> CutRun:
    """Undo a live or ended run: running todos are stopped, then all started todos are
    undone in reverse order, by its `compensate`, or by removing the run's branches and worktrees. Its status
    becomes rolled_back, or rollback_failed where something could not be undone: those todos are
    compensation_failed.

    Called again it tries those again. With `accept` nothing is tried: these count as undone, for the `reason`
    that a person gave you, and what stands before them is undone. coord_get_run(run=…, wait_s=60) follows it.
    """
    operations = session.coord.runs
    found = operations.accept(run, accept, reason) if accept else operations.rollback(run)
    return cut(CutRun, session.detached(found, wait_s), SHOWN)


@reads("Preview a rollback")
def coord_preview_rollback(session: Session, run: RunName = LAST) -> RollbackPreview:
    """The todos that coord_rollback_run would undo, those that nothing undoes, and every branch that would
    go: of a retry also those of the runs that it took up. Show them to the person who decides before you call it.
    """
    found = session.coord.runs.get(run).rollback_preview()
    return RollbackPreview(branches=found.branches, **{name: getattr(found, name) for name in PREVIEWED})


@reads("Show a run")
def coord_get_run(
    session: Session,
    run: RunName = LAST,
    wait_s: Wait = 0,
    states: AnyOf[TodoState] = (),
    limit: Most = SHOWN,
) -> CutRun:
    """A run: its status, and every todo (or those in `states`) with its state, times, error, and what it waits for.

    Who waits for its end (`wait_s`) has what succeeded marked as completed in the ecosystem file.
    """
    view = session.view(session.coord.runs.get(run), wait_s)
    return cut(CutRun, view.only(states) if states else view, limit)


@reads("List runs")
def coord_list_runs(session: Session, limit: Annotated[int, Field(ge=1, le=1000)] = 20) -> Sequence[RunView]:
    """List the newest runs, without their todos."""
    return session.coord.runs.list(limit)


@reads("Read a log")
def coord_get_logs(
    session: Session,
    run: RunName = LAST,
    todo: Annotated[
        str | None, Field(description="A todo of the run; without one, the logs of all of them.")
    ] = None,
    limit: Annotated[int, Field(ge=1, le=200_000, description="At most so many characters.")] = 20_000,
    offset: Annotated[
        int | None,
        Field(ge=0, description="Begin at this character of the log; without it, its end is given."),
    ] = None,
) -> Excerpt:
    """Return the output of a run's todos, over all attempts: its end, or a part from `offset` on."""
    found = session.coord.runs.get(run)
    return excerpt(found.id, todo, found.log(todo), limit=limit, offset=offset)


CheckpointName = Annotated[str, Field(min_length=1, max_length=100, description="The checkpoint's name.")]


class Checkpoint(BaseModel):
    run_id: str
    name: str
    at: str | None
    by: str
    succeeded: tuple[str, ...]


@adds("Create a checkpoint")
def coord_create_checkpoint(session: Session, run: RunName, name: CheckpointName) -> Checkpoint:
    """Record under a name which todos of the run have succeeded so far, to come back to that with coord_restore_checkpoint."""
    return _checkpoint(session.coord.runs.get(run).create_checkpoint(name))


@reads("List checkpoints")
def coord_list_checkpoints(session: Session, run: RunName) -> Sequence[Checkpoint]:
    """List the checkpoints of a run, oldest first. A retry inherits the checkpoints of the run before it."""
    return [_checkpoint(one) for one in session.coord.runs.get(run).checkpoints()]


@carries_out("Restore a checkpoint")
def coord_restore_checkpoint(
    session: Session, run: RunName, name: CheckpointName, wait_s: Wait = 0
) -> CutRun:
    """Undo what the run has begun since the checkpoint, in reverse order, then run that again, and what was left, as a new run.

    While the answer is the run itself, rolling_back, call it again: it continues, and returns the new run
    in the end. Where something could not be undone the run is rollback_failed; fix that and call it again.
    """
    found = session.coord.runs.get(run)
    if not found.begin_restore(name).status.ended:
        session.detached(found, wait_s)
    view = found.view()
    if view.status is RunStatus.ROLLBACK_FAILED:
        raise Conflict(f"not all of run {found.id} could be undone", f"look at it: coord show-run {found.id}")
    if not view.status.ended:
        return cut(CutRun, view, SHOWN)
    return cut(CutRun, session.detached(session.coord.runs.retry(found.id), 0), SHOWN)


def _checkpoint(one: NamedCheckpoint) -> Checkpoint:
    return Checkpoint(**asdict(one))


Waiting = Annotated[
    str, Field(description="A todo or milestone of a run that waits for an approval, or for a person.")
]
InRun = Annotated[str | None, Field(description="Only in this run; needed where more than one asks.")]
Comment = Annotated[str, Field(description="Why, in the person's words; it is kept with the todo.")]


@adds("Approve a todo")
def coord_approve_todo(session: Session, todo: Waiting, run: InRun = None, comment: Comment = "") -> CutRun:
    """Approve a todo that waits at its `gate`, for a person who told you so; a milestone is then reached, a manual todo done.

    coord_get_run(run=…, states=["parked"]) shows what waits for an approval. Returns the run, which continues.
    """
    return cut(CutRun, session.view(session.coord.runs.approve(todo, run, comment)), SHOWN)


@changes("Reject a todo")
def coord_reject_todo(session: Session, todo: Waiting, run: InRun = None, comment: Comment = "") -> CutRun:
    """Reject a todo at its gate, for a person who told you so: it fails, is not retried, and its run applies
    its on_failure policy. coord_retry_run asks for the approval again.
    """
    return cut(CutRun, session.view(session.coord.runs.reject(todo, run, comment)), SHOWN)
