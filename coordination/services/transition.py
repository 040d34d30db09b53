"""The run that starts, stops or restarts services, and its outcome.

The run has a todo of kind `service` for each service, then the checks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordination.errors import NotFound
from coordination.frozen import FrozenModel
from coordination.models import (
    Ecosystem,
    IntegrationCheck,
    OnFailure,
    QaAction,
    Retry,
    Service,
    ServiceAction,
    ServiceStep,
    Todo,
    Workspace,
    generated_id,
)
from coordination.planner.generated import generated_plan
from coordination.runs.records import TodoState
from coordination.runs.run_kinds import SERVICE
from coordination.runs.views.records import RunView
from coordination.services.graph import Phase, in_order, phase_of, select, with_dependents, with_needed
from coordination.services.host import CHECK

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph


ONCE = Retry(attempts=1)
"""One attempt is enough: a start waits for its probe, and the supervisor restarts a service that ends."""
NOBODY: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Member:
    """A service or a check of a run."""

    name: str
    repo: str
    phase: Phase | None
    """None for a service that the file no longer declares."""
    required: bool = False
    depends_on: tuple[str, ...] = ()

    @property
    def todo(self) -> str:
        """Return the id of its todo: `service.web`."""
        return generated_id(f"{CHECK if self.phase is Phase.INTEGRATION else SERVICE}.{self.name}")


@dataclass(frozen=True, kw_only=True)
class Transition:
    """A run that is planned but not started."""

    step: ServiceStep
    members: tuple[Member, ...]
    """In the order of the run."""
    records: Ecosystem
    graph: PlanGraph

    @property
    def optional(self) -> frozenset[str]:
        """Return the todos whose failure only skips their dependents and undoes nothing."""
        return frozenset(one.todo for one in self.members if one.phase is not Phase.CORE)


def transition(
    ecosystem: Ecosystem,
    step: ServiceStep,
    names: Collection[str] = (),
    phase: Phase | None = None,
    undeclared: Mapping[str, str] = NOBODY,
) -> Transition:
    """Return the run of a transition. A start includes the dependencies of the services, a stop or restart
    includes their dependents. The checks follow if all services start or restart.

    `names`: empty for all services; `phase`: None for all phases; `undeclared`: service → repository of the
    services that are up but not declared in the file; they can be stopped. Raises NotFound.
    """
    every = ecosystem.coordination.services
    stops = step is ServiceStep.STOP
    gone = {name: repo for name, repo in undeclared.items() if stops and (not names or name in names)}
    chosen = _chosen(every, step, [name for name in names if name not in gone], all_of=not names)
    phases = phase_of(every)
    services = [one for one in chosen if phase in (None, phases[one.name])]
    checks = () if names or stops else ecosystem.coordination.checks
    checks = checks if phase in (None, Phase.INTEGRATION) else ()
    members = (
        *(Member(name=name, repo=repo, phase=None) for name, repo in gone.items()),
        *(_member(one, phases[one.name]) for one in services),
        *(Member(name=one.name, repo=one.repo, phase=Phase.INTEGRATION) for one in checks),
    )
    if not members:
        what = f"no service of phase {phase} is declared" if phase else "no service is declared"
        raise NotFound(what, "declare some in the file: coordination.services")
    todos = (
        *(_stop(name, repo) for name, repo in gone.items()),
        *_todos(services, phases, step),
        *_checks(checks, services),
    )
    records, graph = generated_plan(
        ecosystem,
        f"{SERVICE}:{step}",
        f"{step} {', '.join(one.name for one in members)}",
        todos,
        repos=tuple(dict.fromkeys(one.repo for one in members)),
        on_failure=OnFailure.ROLLBACK if step is ServiceStep.START else OnFailure.CONTINUE,
    )
    return Transition(step=step, members=members, records=records, graph=graph)


def log_transition(ecosystem: Ecosystem, name: str, repo: str, lines: int) -> Transition:
    """Return the run that brings the end of a service's log from its host."""
    todo = Todo(
        id=generated_id(f"{SERVICE}-log.{name}"),
        task=f"logs of service {name}",
        repo=repo,
        action=ServiceAction(type="service", step=ServiceStep.LOGS, name=name, lines=lines),
        retry=ONCE,
    )
    records, graph = generated_plan(
        ecosystem,
        f"{SERVICE}:{ServiceStep.LOGS}",
        todo.task,
        (todo,),
        repos=(repo,),
        on_failure=OnFailure.CONTINUE,
    )
    member = Member(name=name, repo=repo, phase=None)
    return Transition(step=ServiceStep.LOGS, members=(member,), records=records, graph=graph)


def _chosen(
    every: Sequence[Service], step: ServiceStep, names: Sequence[str], *, all_of: bool
) -> tuple[Service, ...]:
    if not names:
        return in_order(every) if all_of else ()
    select(every, names)  # raises NotFound
    selected = (with_needed if step is ServiceStep.START else with_dependents)(every, names)
    return tuple(one for one in in_order(every) if one.name in selected)


def _member(service: Service, phase: Phase) -> Member:
    return Member(
        name=service.name,
        repo=service.repo,
        phase=phase,
        required=service.required,
        depends_on=service.depends_on,
    )


def _todos(services: Collection[Service], phases: Mapping[str, Phase], step: ServiceStep) -> Iterator[Todo]:
    here = {one.name for one in services}
    core = _last([one for one in services if phases[one.name] is Phase.CORE])
    for service in services:
        if step is ServiceStep.STOP:
            before: Iterable[str] = (one.name for one in services if service.name in one.depends_on)
            yield _stop(service.name, service.repo, before)
            continue
        first = core if phases[service.name] is Phase.EXTERNAL else ()
        before = dict.fromkeys([*(name for name in service.depends_on if name in here), *first])
        yield _todo(service.name, service.repo, step, before, service)


def _last(services: Collection[Service]) -> tuple[str, ...]:
    """Return the services without dependents: when these are up, all are."""
    needed = {name for one in services for name in one.depends_on}
    return tuple(one.name for one in services if one.name not in needed)


def _stop(name: str, repo: str, before: Iterable[str] = ()) -> Todo:
    return _todo(name, repo, ServiceStep.STOP, before, None)


def _todo(name: str, repo: str, step: ServiceStep, before: Iterable[str], service: Service | None) -> Todo:
    back = ServiceAction(type="service", step=ServiceStep.STOP, name=name)
    return Todo(
        id=generated_id(f"{SERVICE}.{name}"),
        task=f"{step} service {name}",
        repo=repo,
        blocked_by=tuple(generated_id(f"{SERVICE}.{one}") for one in before),
        action=ServiceAction(type="service", step=step, name=name, service=service),
        compensate=back if step is ServiceStep.START else None,
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def _checks(checks: Iterable[IntegrationCheck], services: Collection[Service]) -> Iterator[Todo]:
    """Yield the todos of the checks; they wait until all services of the run are up."""
    before = tuple(generated_id(f"{SERVICE}.{name}") for name in _last(services))
    for check in checks:
        yield Todo(
            id=generated_id(f"{CHECK}.{check.name}"),
            task=f"check {check.name}",
            repo=check.repo,
            blocked_by=before,
            action=QaAction(type="qa", run=check.command, needs=()),
            timeout=check.timeout,
            retry=ONCE,
        )


UNTOUCHED = (TodoState.SKIPPED, TodoState.CANCELLED)


class ServiceResult(FrozenModel):
    """The result of one service or one check."""

    name: str
    repo: str
    phase: Phase | None
    """`integration` for a check; None for a service that the file no longer declares."""
    required: bool
    state: TodoState
    why: str = ""
    """The reason of the failure; empty if it succeeded."""
    host: str = ""
    pid: int | None = None
    duration_s: float | None = None


class ServicesOutcome(FrozenModel):
    """The result of starting, stopping or restarting services."""

    step: ServiceStep
    run: str
    success: bool
    """True if all services are in the ordered state and all checks have passed."""
    degraded: bool
    """True if the required services are up, but an optional service or a check has failed."""
    started: tuple[str, ...]
    """Started or restarted."""
    failed: tuple[str, ...]
    """Names of failed services and checks."""
    stopped: tuple[str, ...]
    """Services stopped as ordered; for a start, those stopped again because a required service failed."""
    skipped: tuple[str, ...]
    """Services that were not started because a dependency failed."""
    total_s: float
    details: tuple[ServiceResult, ...]
    warnings: tuple[str, ...] = ()
    """Notes about services that are up but not declared in the file."""


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
        output = todo.output if isinstance(todo.output, dict) else {}
        yield ServiceResult(
            name=one.name,
            repo=one.repo,
            phase=one.phase,
            required=one.required,
            state=todo.state,
            why=todo.error or "",
            host=todo.host or "",
            pid=output.get("pid"),
            duration_s=todo.duration_s,
        )
