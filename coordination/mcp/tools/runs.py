"""Tools on runs, logs, checkpoints and approvals. A run continues when the client leaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from coordination.api import (
    LAST,
    OF_TODOS,
    ActsOn,
    RunStatus,
    Subject,
    TodoState,
    texts,
)
from coordination.errors import Conflict
from coordination.mcp.answers import TODOS_SHOWN, CutRun, cut
from coordination.mcp.declaration import (
    AnyOf,
    Most,
    RunName,
    Wait,
    adds,
    executes,
    reads,
)
from coordination.mcp.session import Session
from coordination.models import Verdict


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


@reads("Show a run", "run.show")
def coord_run_show(
    session: Session,
    run: RunName = LAST,
    wait_s: Wait = 0,
    states: AnyOf[TodoState] = (),
    limit: Most = TODOS_SHOWN,
) -> CutRun:
    """With `states`, only todos in these states are returned. With `wait_s`, wait for the end of the run; its
    succeeded todos are then marked as completed in the file.
    """
    view = session.view(session.coord.runs.get(run), wait_s)
    return cut(CutRun, view.only(states) if states else view, limit)


@reads("Read a log", "run.logs")
def coord_run_logs(
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


@executes("Restore a checkpoint", "checkpoint.restore")
def coord_checkpoint_restore(
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
        return cut(CutRun, view, TODOS_SHOWN)
    return cut(CutRun, session.detached(session.coord.runs.retry(found.id), 0), TODOS_SHOWN)


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
    identity. Show this to the person: the answer of coord_run_show may have been forged in Redis.
    """


@adds("Approve a todo", "run.approve")
def coord_run_approve(
    session: Session,
    todo: Waiting,
    run: InRun = None,
    comment: Comment = "",
    dry_run: Annotated[bool, Field(description=texts.REVIEW)] = False,
) -> ApprovedRun:
    """Do it on behalf of a person who told you to. Approving a milestone reaches it, approving a manual todo
    completes it. coord_run_show(run=…, states=["parked"]) lists the todos that wait for an approval.
    """
    runs = session.coord.runs
    if dry_run:
        name, subject = runs.review(todo, run)
    else:
        decision = runs.decide(Verdict.APPROVE, todo, run, comment)
        name, subject = decision.run_id, decision.subject
    return cut(ApprovedRun, session.view(runs.get(name)), TODOS_SHOWN).model_copy(update={"subject": subject})
