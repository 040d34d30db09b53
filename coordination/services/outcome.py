"""The outcome of starting, stopping or restarting services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from coordination.models import ServiceStep
from coordination.runs.records import RunStatus, RunView, TodoState
from coordination.services.graph import Phase
from coordination.services.stages import Stage, todo_of

UNTOUCHED = (TodoState.SKIPPED, TodoState.CANCELLED)


class ServiceResult(BaseModel):
    """The transition of one service."""

    model_config = ConfigDict(frozen=True)

    name: str
    repo: str
    phase: Phase | None
    required: bool
    run: str = ""
    """The run of its transition; empty where its phase was not begun."""
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
    success: bool
    """All are as ordered."""
    degraded: bool
    """Required services are up, others or checks are not."""
    started: tuple[str, ...]
    failed: tuple[str, ...]
    stopped: tuple[str, ...]
    """Stopped again, because a required one failed."""
    skipped: tuple[str, ...]
    """Not begun, because what they depend on failed."""
    total_s: float
    details: tuple[ServiceResult, ...]


def outcome_of(stages: Sequence[Stage], views: Sequence[RunView]) -> ServicesOutcome:
    """Return the outcome of stages, of which the first have these runs; the others were not begun."""
    pairs = [(stage, views[n] if n < len(views) else None) for n, stage in enumerate(stages)]
    details = tuple(result for stage, view in pairs for result in _results(stage, view))
    bad = [one for one in details if one.state is not TodoState.SUCCEEDED]
    core = [view for stage, view in pairs if stage.phase is Phase.CORE and view is not None]
    required_up = all(view.status is RunStatus.SUCCEEDED for view in core)
    return ServicesOutcome(
        step=stages[0].step,
        success=not bad,
        degraded=bool(bad) and required_up and stages[0].step is not ServiceStep.STOP,
        started=tuple(one.name for one in details if one.state is TodoState.SUCCEEDED),
        failed=tuple(one.name for one in bad if one.why and one.state not in UNTOUCHED),
        stopped=tuple(one.name for one in bad if not one.why and one.state is TodoState.COMPENSATED),
        skipped=tuple(one.name for one in bad if one.state in UNTOUCHED),
        total_s=round(sum(view.duration_s or 0.0 for view in views), 3),
        details=details,
    )


def _results(stage: Stage, view: RunView | None) -> Iterable[ServiceResult]:
    todos = {todo.id: todo for todo in view.todos} if view else {}
    for service in stage.services:
        todo = todos.get(todo_of(service.name))
        said = todo.output if todo and isinstance(todo.output, dict) else {}
        yield ServiceResult(
            name=service.name,
            repo=service.repo,
            phase=stage.phase,
            required=service.required,
            run=view.run_id if view else "",
            state=todo.state if todo else TodoState.SKIPPED,
            why=(todo.error or "") if todo else "an earlier phase failed",
            host=todo.host if todo else "",
            pid=said.get("pid"),
            duration_s=todo.duration_s if todo else None,
        )
