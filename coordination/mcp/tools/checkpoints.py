"""Named checkpoints of runs: made, listed, come back to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, Field

from coordination.errors import Conflict
from coordination.mcp.answers import CutRun, cut
from coordination.mcp.declaring import RunName, Wait, adds, carries_out, reads
from coordination.mcp.session import Session
from coordination.mcp.tools.runs import SHOWN
from coordination.runs.records import RunStatus
from coordination.runs.retrying.named_checkpoints import NamedCheckpoint

CheckpointName = Annotated[str, Field(min_length=1, max_length=100, description="The checkpoint's name.")]


class Checkpoint(BaseModel):
    run_id: str
    name: str
    at: str | None
    by: str
    succeeded: tuple[str, ...]


@adds("Create a checkpoint")
def coord_create_checkpoint(office: Session, run: RunName, name: CheckpointName) -> Checkpoint:
    """Record under a name which todos of the run have succeeded so far, to come back to that with coord_restore_checkpoint."""
    return _shown(office.coord.runs.get(run).create_checkpoint(name))


@reads("List checkpoints")
def coord_list_checkpoints(office: Session, run: RunName) -> Sequence[Checkpoint]:
    """The checkpoints of a run, the oldest first. A retry of the run has those of the run before it."""
    return [_shown(one) for one in office.coord.runs.get(run).checkpoints()]


@carries_out("Restore a checkpoint")
def coord_restore_checkpoint(office: Session, run: RunName, name: CheckpointName, wait_s: Wait = 0) -> CutRun:
    """Undo what the run has begun since the checkpoint, in reverse order, then run that again, and what was left, as a new run.

    As long as the answer is the run itself, rolling_back, call it again: it goes on, and returns the new run in the end. Where something
    could not be undone the run is rollback_failed; mend that, and call it again.
    """
    found = office.coord.runs.get(run)
    if not found.begin_restore(name).status.ended:
        office.begun(found, wait_s)
    view = found.view()
    if view.status is RunStatus.ROLLBACK_FAILED:
        raise Conflict(f"not all of run {found.id} could be undone", f"look at it: coord show-run {found.id}")
    if not view.status.ended:
        return cut(CutRun, view, SHOWN)
    return cut(CutRun, office.begun(office.coord.runs.retry(found.id), 0), SHOWN)


def _shown(one: NamedCheckpoint) -> Checkpoint:
    return Checkpoint(**asdict(one))
