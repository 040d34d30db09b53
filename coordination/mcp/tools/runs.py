"""Tools on runs, logs, checkpoints and approvals. A run continues when the client leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

from coordination.api import (
    LAST,
    OF_TODOS,
    UNDOABLE,
    ActsOn,
    NamedCheckpoint,
    RunStatus,
    RunView,
    Selectors,
    Subject,
    TodoState,
    texts,
)
from coordination.errors import Conflict
from coordination.frozen import FrozenModel
from coordination.mcp.answers import CutRun, cut, duration, given_fields
from coordination.mcp.declaration import (
    AnyOf,
    AtOnce,
    Items,
    Most,
    PlanName,
    RunName,
    Time,
    TodoName,
    Wait,
    adds,
    changes,
    executes,
    reads,
    undoes,
)
from coordination.mcp.session import Session
from coordination.models import OnFailure, Strategy, Verdict


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A part of a log. If characters are omitted before or after it, `text` begins or ends with a line that
    says so.
    """

    run_id: str
    todo: str | None
    text: str
    offset: int
    """Position in the log of the first character in `text`."""
    end: int
    """Position after the last character in `text`; pass it as `offset` to continue."""
    total: int
    """Current length of the log."""


def excerpt(
    run_id: str, todo: str | None, pieces: Iterable[str], *, limit: int, offset: int | None
) -> Excerpt:
    """Return the log from `offset` on, or its end, from the start of a line if one is near."""
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
    Field(description=texts.ACCEPT_RESULTS),
]


class RollbackPreview(FrozenModel):
    run_id: str
    status: RunStatus
    todos: tuple[str, ...]
    repos: tuple[str, ...]
    helpless: tuple[str, ...]
    takes_up: tuple[str, ...]
    compensations: dict[str, str]
    branches: tuple[str, ...]


PREVIEWED = ("run_id", "status", "todos", "repos", "helpless", "takes_up", "compensations")


@executes("Run a plan", "runs.sweep")
def coord_sweep_plan(
    session: Session,
    plan: PlanName,
    strategy: Annotated[Strategy | None, Field(description=texts.AS_IN_PLAN)] = None,
    on_failure: Annotated[OnFailure | None, Field(description=texts.AS_IN_PLAN)] = None,
    max_parallel: AtOnce = None,
    repos: Annotated[Items, Field(description=texts.TODOS_OF_REPOS)] = None,
    todos: Annotated[Items, Field(description=texts.TODOS)] = None,
    no_cache: Annotated[bool, Field(description=texts.NO_CACHE)] = False,
    timeout_s: TimeoutS = None,
    accept: Accepted = None,
    fresh: Annotated[bool, Field(description=f"{texts.FRESH} Only if a person told you to.")] = False,
    wait_s: Wait = 0,
) -> CutRun:
    """The run is returned at once and continues independently of this session: follow it with
    coord_get_run(run=…, wait_s=60) until its status is no longer running. coord_land_plan lands its work.
    Call coord_forecast_plan first for a preview.
    """
    arguments = given_fields(
        plan=plan,
        strategy=strategy,
        on_failure=on_failure,
        max_parallel=max_parallel,
        no_cache=no_cache,
        accept=accept,
        fresh=fresh,
    )
    wanted = Selectors(repos=repos or (), todos=todos or ())
    run = session.coord.runs.sweep(wanted=wanted, timeout=duration(timeout_s), **arguments)
    return cut(CutRun, session.detached(run, wait_s), SHOWN)


@executes("Run one todo", "runs.execute")
def coord_execute_todo(
    session: Session, todo: TodoName, timeout_s: TimeoutS = None, accept: Accepted = None, wait_s: Wait = 0
) -> CutRun:
    """The run is returned at once; follow it with coord_get_run."""
    run = session.coord.runs.execute(todo, timeout=duration(timeout_s), accept=accept or ())
    return cut(CutRun, session.detached(run, wait_s), SHOWN)


@executes("Retry a run", "runs.retry")
def coord_retry_run(
    session: Session,
    run: RunName = LAST,
    on_failure: Annotated[OnFailure | None, Field(description=texts.AS_IN_RUN)] = None,
    max_parallel: AtOnce = None,
    from_todos: Annotated[Items, Field(description=texts.AGAIN)] = None,
    as_it_was: Annotated[
        bool,
        Field(description=texts.AS_IT_WAS),
    ] = False,
    wait_s: Wait = 0,
) -> CutRun:
    """The worktree is .coord/worktrees/<run_id>/<repo> on the worker's machine."""
    again = session.coord.runs.retry(
        run, on_failure=on_failure, max_parallel=max_parallel, from_=from_todos or (), as_it_was=as_it_was
    )
    return cut(CutRun, session.detached(again, wait_s), SHOWN)


@changes("Cancel a run", "run.cancel")
def coord_cancel_run(session: Session, run: RunName, wait_s: Wait = 0) -> CutRun:
    found = session.coord.runs.get(run)
    found.cancel()
    return cut(CutRun, session.view(found, wait_s), SHOWN)


@undoes("Undo a run", "run.rollback")
def coord_rollback_run(
    session: Session,
    run: RunName,
    accept: Annotated[
        Items, Field(description=f"{texts.ACCEPT_UNDONE} Only if a person told you to.")
    ] = None,
    reason: Annotated[str, Field(description=texts.ACCEPT_REASON)] = "",
    wait_s: Wait = 0,
) -> CutRun:
    """With `accept`, the named todos count as undone, for the `reason` that a person gave you, and their
    predecessors are undone next. Follow the run with coord_get_run(run=…, wait_s=60).
    """
    operations = session.coord.runs
    found = operations.accept(run, accept, reason) if accept else operations.rollback(run)
    return cut(CutRun, session.detached(found, wait_s), SHOWN)


@reads("Preview a rollback", "run.rollback_preview")
def coord_preview_rollback(session: Session, run: RunName = LAST) -> RollbackPreview:
    """Show them to the person who decides before you call coord_rollback_run."""
    found = session.coord.runs.get(run, UNDOABLE).rollback_preview()
    return RollbackPreview(branches=found.branches, **{name: getattr(found, name) for name in PREVIEWED})


@reads("Show a run", "run.view")
def coord_get_run(
    session: Session,
    run: RunName = LAST,
    wait_s: Wait = 0,
    states: AnyOf[TodoState] = (),
    limit: Most = SHOWN,
) -> CutRun:
    """With `states`, only todos in these states are returned. With `wait_s`, wait for the end of the run; its
    succeeded todos are then marked as completed in the file.
    """
    view = session.view(session.coord.runs.get(run), wait_s)
    return cut(CutRun, view.only(states) if states else view, limit)


@reads("List runs", "runs.list")
def coord_list_runs(
    session: Session,
    plan: AnyOf[str] = (),
    status: AnyOf[RunStatus] = (),
    since: Time = None,
    limit: Annotated[int, Field(ge=1, le=1000)] = 20,
) -> Sequence[RunView]:
    return session.coord.runs.list(limit, plan=plan or None, status=status or None, since=since)


@reads("Read a log", "run.log")
def coord_get_logs(
    session: Session,
    run: RunName = LAST,
    todo: Annotated[
        str | None, Field(description="A todo of the run (default: the logs of all todos).")
    ] = None,
    limit: Annotated[int, Field(ge=1, le=200_000, description="Maximum number of characters.")] = 20_000,
    offset: Annotated[
        int | None,
        Field(ge=0, description="Begin at this character of the log (default: return its end)."),
    ] = None,
) -> Excerpt:
    """Its end is returned, or a part from `offset` on."""
    found = session.coord.runs.get(run, ActsOn(todo=todo))
    return excerpt(found.id, todo, found.log(todo), limit=limit, offset=offset)


CheckpointName = Annotated[str, Field(min_length=1, max_length=100, description="The checkpoint's name.")]


class Checkpoint(FrozenModel):
    run_id: str
    name: str
    at: str | None
    by: str
    succeeded: tuple[str, ...]


@adds("Create a checkpoint", "run.create_checkpoint")
def coord_create_checkpoint(session: Session, run: RunName, name: CheckpointName) -> Checkpoint:
    """coord_restore_checkpoint returns to it."""
    return _checkpoint(session.coord.runs.get(run, OF_TODOS).create_checkpoint(name))


@reads("List checkpoints", "run.checkpoints")
def coord_list_checkpoints(session: Session, run: RunName) -> Sequence[Checkpoint]:
    return [_checkpoint(one) for one in session.coord.runs.get(run, OF_TODOS).checkpoints()]


@executes("Restore a checkpoint", "run.restore")
def coord_restore_checkpoint(
    session: Session, run: RunName, name: CheckpointName, wait_s: Wait = 0
) -> CutRun:
    """While the returned run has the status rolling_back, call it again; at the end it returns the new run.
    If a todo could not be undone, the run is rollback_failed: correct the cause and call it again.
    """
    found = session.coord.runs.get(run, OF_TODOS)
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
    str,
    Field(
        description="A todo or milestone of a run that waits for an approval or another action of a person."
    ),
]
InRun = Annotated[str | None, Field(description=texts.IN_RUN)]
Comment = Annotated[str, Field(description=f"{texts.COMMENT} It is the person's reason.")]


class ApprovedRun(CutRun):
    """A run, and what was approved in it or, with `dry_run`, would be."""

    subject: Subject | None = None
    """The content that the approval signs, from bytes that were verified on this machine; null without an
    identity. Show this to the person: the answer of coord_get_run may have been forged in Redis.
    """


@adds("Approve a todo", "runs.approve")
def coord_approve_todo(
    session: Session,
    todo: Waiting,
    run: InRun = None,
    comment: Comment = "",
    dry_run: Annotated[bool, Field(description=texts.REVIEW)] = False,
) -> ApprovedRun:
    """Do it on behalf of a person who told you to. Approving a milestone reaches it, approving a manual todo
    completes it. coord_get_run(run=…, states=["parked"]) lists the todos that wait for an approval.
    """
    runs = session.coord.runs
    if dry_run:
        name, subject = runs.review(todo, run)
    else:
        decision = runs.decide(Verdict.APPROVE, todo, run, comment)
        name, subject = decision.run_id, decision.subject
    return cut(ApprovedRun, session.view(runs.get(name)), SHOWN).model_copy(update={"subject": subject})


@changes("Reject a todo", "runs.reject")
def coord_reject_todo(session: Session, todo: Waiting, run: InRun = None, comment: Comment = "") -> CutRun:
    """Do it on behalf of a person who told you to. coord_retry_run asks for the approval again."""
    return cut(CutRun, session.view(session.coord.runs.reject(todo, run, comment)), SHOWN)
