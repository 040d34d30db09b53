"""Execute or undo a todo of a landing run, and make the grant of a check that runs again within it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from coordination.errors import PlanRefused
from coordination.models import (
    Cache,
    LandAction,
    LandCheck,
    LandStep,
    Retry,
    RevertAction,
    Todo,
    Via,
    Workspace,
)
from coordination.runs.replies import Grant, Undo
from workers.attempt.environment import MakeLandJob
from workers.executors import land
from workers.executors.land_job import LandJob
from workers.outcome import AttemptOutcome, OutcomeKind


def carry_out(
    grant: Grant,
    make: MakeLandJob | None,
    stopped: Callable[[], OutcomeKind | None],
    say: Callable[[str], None],
    check: Callable[[LandCheck, str], AttemptOutcome],
) -> AttemptOutcome | None:
    """Execute or undo a todo of a landing; None for any other todo. `make`: None where this worker may not
    write change sets. `stopped` tells a stop, `say` writes a line of the log, `check` runs a check.
    """
    todo, undo = grant.spec.todo, grant.undo
    action = todo.action if undo is None else todo.compensate
    if not isinstance(action, LandAction | RevertAction):
        return None
    if make is None:
        raise PlanRefused(
            "a restricted worker lands nothing: its Redis user may not write change sets",
            "serve the repository with a worker that is not restricted",
        )
    job = make(stopped, say, check)
    looks_back = isinstance(action, LandAction) and action.step is LandStep.LANDED
    if action.via is Via.PR and not looks_back:
        return _by_request(job, action, undo)
    if isinstance(action, LandAction):
        return land.land(job, action)
    return land.revert(job, action) if undo is None else land.revert_own(job, action, undo.output)


def _by_request(job: LandJob, action: LandAction | RevertAction, undo: Undo | None) -> AttemptOutcome:
    from workers.executors import land_request, revert_request  # the client of forges costs 0.1 s of a start

    if isinstance(action, LandAction):
        return land_request.land_request(job, action)
    return revert_request.revert_request(job, action, undo.output if undo else None)


def check_grant(grant: Grant, check: LandCheck, commit: str) -> Grant:
    """Return the grant of a check at a commit, which runs as a part of the todo that lands. It has the lease
    and the fence of that todo, and not its record.
    """
    todo = Todo(
        id=check.todo,
        task=f"Check {grant.spec.repo.name}: {check.action.check}",
        repo=grant.spec.repo.name,
        action=check.action,
        workspace=Workspace.WORKTREE,
        cache=Cache(),
    )
    told = {"todo": todo, "retry": Retry(attempts=1), "timeout": check.timeout or grant.spec.timeout}
    spec = grant.spec.model_copy(update=told)
    return replace(grant, spec_json=spec.model_dump_json(exclude_defaults=True), tip=commit, checkpoint="")
