"""The runs that start, stop or restart services: one for each phase, made of todos of kind `service`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordination.models import (
    Ecosystem,
    OnFailure,
    Retry,
    Service,
    ServiceAction,
    ServiceStep,
    Todo,
    Workspace,
    generated_id,
)
from coordination.planner.generated import generated_plan
from coordination.runs.records import SERVICE
from coordination.services.graph import Phase, phase_of, select, with_dependents, with_needed

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph

ONCE = Retry(attempts=1)
"""A start waits for its probe by itself; the supervisor restarts what ends later."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A run of one phase; the next phase begins when it has ended."""

    phase: Phase | None
    """None: of a stop, which has no phases."""
    step: ServiceStep
    services: tuple[Service, ...]
    records: Ecosystem
    graph: PlanGraph


def stages(
    ecosystem: Ecosystem, step: ServiceStep, names: Collection[str] = (), phase: Phase | None = None
) -> tuple[Stage, ...]:
    """Return the runs of a transition in their order. A start includes what the services depend on, a stop
    and a restart what depends on them. `names`: none for all; `phase`: those of this phase only.

    Raises NotFound.
    """
    every = ecosystem.coordination.services
    chosen = select(every, names)
    reach = with_needed if step is ServiceStep.START else with_dependents
    wanted = reach(every, [service.name for service in chosen]) if names else {one.name for one in chosen}
    phases = phase_of(every)
    ours = [one for one in select(every, ()) if one.name in wanted and phase in (None, phases[one.name])]
    if step is ServiceStep.STOP:
        return (_stage(ecosystem, None, step, ours),) if ours else ()
    parts = [(part, [one for one in ours if phases[one.name] is part]) for part in Phase]
    return tuple(_stage(ecosystem, part, step, services) for part, services in parts if services)


def todo_of(service: str) -> str:
    """Return the todo of a service: `service.web`."""
    return generated_id(f"{SERVICE}.{service}")


def _stage(
    ecosystem: Ecosystem, phase: Phase | None, step: ServiceStep, services: Sequence[Service]
) -> Stage:
    """Return the run of these services. If a required one does not come up, what the run has started is
    stopped; a service that was up before stays.
    """
    starts = step is not ServiceStep.STOP
    todos = tuple(_todo(one, step, _before(one, services, step)) for one in services)
    records, graph = generated_plan(
        ecosystem,
        f"{SERVICE}:{phase or step}",
        f"{step} {', '.join(one.name for one in services)}",
        todos,
        repos=tuple(dict.fromkeys(one.repo for one in services)),
        on_failure=OnFailure.ROLLBACK if starts and phase is Phase.CORE else OnFailure.CONTINUE,
    )
    return Stage(phase=phase, step=step, services=tuple(services), records=records, graph=graph)


def _before(service: Service, services: Iterable[Service], step: ServiceStep) -> tuple[str, ...]:
    """Return the services of the run whose transitions come first."""
    if step is ServiceStep.STOP:
        return tuple(one.name for one in services if service.name in one.depends_on)
    here = {one.name for one in services}
    return tuple(name for name in service.depends_on if name in here)


def _todo(service: Service, step: ServiceStep, before: Sequence[str]) -> Todo:
    back = ServiceAction(type="service", step=ServiceStep.STOP, service=service)
    return Todo(
        id=todo_of(service.name),
        task=f"{step} service {service.name}",
        repo=service.repo,
        blocked_by=tuple(map(todo_of, before)),
        action=ServiceAction(type="service", step=step, service=service),
        compensate=back if step is ServiceStep.START else None,
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )
