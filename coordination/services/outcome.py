"""The outcome of starting, stopping or restarting services."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from coordination.models import ServiceStep
from coordination.runs.records import RunView, TodoState
from coordination.services.graph import Phase
from coordination.services.transition import Transition

UNTOUCHED = (TodoState.SKIPPED, TodoState.CANCELLED)


class ServiceResult(BaseModel):
    """The transition of one service, or one check."""

    model_config = ConfigDict(frozen=True)

    name: str
    repo: str
    phase: Phase | None
    """`integration` for a check; None for a service that the file no longer declares."""
    required: bool
    state: TodoState
    why: str = ""
    """Why it is not succeeded."""
    host: str = ""
    pid: int | None = None
    duration_s: float | None = None


class ServicesOutcome(BaseModel):
    """The result of starting, stopping or restarting services."""

    model_config = ConfigDict(frozen=True)

    step: ServiceStep
    run: str
    success: bool
    """All are as ordered, and all checks have passed."""
    degraded: bool
    """Required services are up, others or checks are not."""
    started: tuple[str, ...]
    """Started or restarted."""
    failed: tuple[str, ...]
    """Services and checks."""
    stopped: tuple[str, ...]
    """Stopped as ordered; by a start: stopped again, because a required one failed."""
    skipped: tuple[str, ...]
    """Not begun, because what they depend on failed."""
    total_s: float
    details: tuple[ServiceResult, ...]
    warnings: tuple[str, ...] = ()
    """Services that are up and that the file does not declare."""


def outcome_of(transition: Transition, view: RunView, warnings: Iterable[str] = ()) -> ServicesOutcome:
    """Return the outcome of an ended run."""
    details = tuple(_results(transition, view))
    services = [one for one in details if one.phase is not Phase.INTEGRATION]
    bad = [one for one in details if one.state is not TodoState.SUCCEEDED]
    done = tuple(one.name for one in services if one.state is TodoState.SUCCEEDED)
    stops = transition.step is ServiceStep.STOP
    undone = tuple(one.name for one in bad if not one.why and one.state is TodoState.COMPENSATED)
    required_up = all(one.state is TodoState.SUCCEEDED for one in details if one.phase is Phase.CORE)
    return ServicesOutcome(
        step=transition.step,
        run=view.run_id,
        success=not bad,
        degraded=bool(bad) and required_up and not stops,
        started=() if stops else done,
        failed=tuple(one.name for one in bad if one.why and one.state not in UNTOUCHED),
        stopped=done if stops else undone,
        skipped=tuple(one.name for one in bad if one.state in UNTOUCHED),
        total_s=round(view.duration_s or 0.0, 3),
        details=details,
        warnings=tuple(warnings),
    )


def _results(transition: Transition, view: RunView) -> Iterable[ServiceResult]:
    todos = {todo.id: todo for todo in view.todos}
    for one in transition.members:
        todo = todos[one.todo]
        said = todo.output if isinstance(todo.output, dict) else {}
        yield ServiceResult(
            name=one.name,
            repo=one.repo,
            phase=one.phase,
            required=one.required,
            state=todo.state,
            why=todo.error or "",
            host=todo.host or "",
            pid=said.get("pid"),
            duration_s=todo.duration_s,
        )
