"""What a person decides about a todo of a run, told by whoever they told it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.mcp.answers import CutRun, cut
from coordination.mcp.declaring import adds, changes
from coordination.mcp.session import Session
from coordination.mcp.tools.runs import SHOWN

Asked = Annotated[str, Field(description="A todo or milestone of a run that waits for an approval, or for a person.")]
InRun = Annotated[str | None, Field(description="Only in this run; needed where more than one asks.")]
Comment = Annotated[str, Field(description="Why, in the person's words; it is kept with the todo.")]


@adds("Approve a todo")
def coord_approve_todo(office: Session, todo: Asked, run: InRun = None, comment: Comment = "") -> CutRun:
    """Let a todo begin at its `gate`, for a person who has told you so; a milestone is reached by that, and a manual todo done.

    coord_get_run(run=…, states=["parked"]) shows what waits for an approval. Returns the run, which goes on.
    """
    return cut(CutRun, office.seen(office.coord.runs.approve(todo, run, comment)), SHOWN)


@changes("Reject a todo")
def coord_reject_todo(office: Session, todo: Asked, run: InRun = None, comment: Comment = "") -> CutRun:
    """Do not let a todo begin, for a person who has told you so: it has failed, is not tried again, and its run does what its
    on_failure says. To be asked once more: coord_retry_run.
    """
    return cut(CutRun, office.seen(office.coord.runs.reject(todo, run, comment)), SHOWN)
