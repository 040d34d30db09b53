"""Tools on issues, todos, plans, repositories and dependencies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from coordination.api import BlockingIssue, DependencyReport, Edited, Selectors, TodoInView, as_view, texts
from coordination.errors import UsageError
from coordination.mcp.answers import (
    CutEcosystemStatus,
    CutForecast,
    CutPlanCompletion,
    CutRepoStatus,
    EditedIssue,
    EditedPlan,
    EditedTodo,
    IssueDetails,
    Page,
    TodoDetails,
    cut,
    cut_forecast,
    edited,
    given_fields,
    page,
    with_details,
)
from coordination.mcp.declaration import (
    AnyOf,
    AtOnce,
    BlockedBy,
    Blocking,
    Date,
    IssueName,
    Items,
    Labels,
    Limit,
    Most,
    Offset,
    PlanName,
    RepoName,
    Repos,
    Resources,
    Severity,
    TodoName,
    adds,
    changes,
    checks,
    reads,
)
from coordination.mcp.session import Session
from coordination.models import (
    Dependency,
    DependencyStatus,
    DependencyType,
    Gate,
    Issue,
    IssueStatus,
    Level,
    Plan,
    PlanStatus,
    TodoStatus,
)


@reads("List issues", "manager.list_issues")
def coord_list_issues(
    session: Session,
    status: AnyOf[IssueStatus] = (),
    priority: AnyOf[Level] = (),
    repo: AnyOf[str] = (),
    assignee: AnyOf[str] = (),
    label: AnyOf[str] = (),
    limit: Limit = 100,
    offset: Offset = 0,
) -> Page[Issue]:
    found = session.coord.manager.list_issues(
        status or None, priority or None, repo or None, assignee or None, label or None
    )
    return page(found, limit, offset)


@reads("Show an issue", "records.issue")
def coord_get_issue(session: Session, issue: IssueName) -> IssueDetails:
    return with_details(IssueDetails, session.coord.records.issue(issue))


@adds("Create an issue", "manager.create_issue")
def coord_create_issue(
    session: Session,
    title: str,
    description: str | None = None,
    repos: Repos = None,
    priority: Level | None = None,
    severity: Severity = None,
    status: IssueStatus | None = None,
    assignee: str | None = None,
    target: Date = None,
    labels: Labels = None,
    dependencies: BlockedBy = None,
    blocking: Blocking = None,
) -> EditedIssue:
    return edited(
        EditedIssue,
        session.coord.manager.create_issue(
            **given_fields(
                title=title,
                description=description,
                repos=repos,
                priority=priority,
                severity=severity,
                status=status,
                assignee=assignee,
                target=target,
                labels=labels,
                dependencies=dependencies,
                blocking=blocking,
            )
        ),
    )


@changes("Change an issue", "manager.update_issue")
def coord_update_issue(
    session: Session,
    issue: IssueName,
    title: str | None = None,
    description: str | None = None,
    repos: Repos = None,
    priority: Level | None = None,
    severity: Severity = None,
    status: IssueStatus | None = None,
    assignee: str | None = None,
    target: Date = None,
    labels: Labels = None,
    dependencies: BlockedBy = None,
    blocking: Blocking = None,
    clear: Annotated[Items, Field(description="Names of fields to empty.")] = None,
) -> EditedIssue:
    fields = {
        **dict.fromkeys(clear or ()),
        **given_fields(
            title=title,
            description=description,
            repos=repos,
            priority=priority,
            severity=severity,
            status=status,
            assignee=assignee,
            target=target,
            labels=labels,
            dependencies=dependencies,
            blocking=blocking,
        ),
    }
    return edited(EditedIssue, session.coord.manager.update_issue(issue, fields))


@adds("Close an issue", "manager.close_issue")
def coord_close_issue(session: Session, issue: IssueName) -> EditedIssue:
    """`ready` lists the ids of these records."""
    return edited(EditedIssue, session.coord.manager.close_issue(issue))


@reads("List blocking issues", "manager.get_blocking_issues")
def coord_get_blocking_issues(session: Session, repo: RepoName) -> Sequence[BlockingIssue]:
    return session.coord.manager.get_blocking_issues(repo)


@reads("List todos", "manager.list_todos")
def coord_list_todos(
    session: Session,
    repo: AnyOf[str] = (),
    status: AnyOf[TodoStatus] = (),
    assignee: AnyOf[str] = (),
    plan: AnyOf[str] = (),
    priority: AnyOf[Level] = (),
    label: AnyOf[str] = (),
    limit: Limit = 100,
    offset: Offset = 0,
) -> Page[TodoInView]:
    """Fields: `run_id`, `run_state` and `worker`."""
    found = session.coord.manager.list_todos(
        status or None, repo or None, assignee or None, plan or None, priority or None, label or None
    )
    return page([as_view(todo) for todo in found], limit, offset)


@reads("Show a todo", "records.todo")
def coord_get_todo(session: Session, todo: TodoName) -> TodoDetails:
    return with_details(TodoDetails, session.coord.records.todo(todo))


@adds("Create a todo", "manager.create_todo")
def coord_create_todo(
    session: Session,
    task: Annotated[str, Field(description=texts.TASK)],
    repo: RepoName,
    plan: PlanName | None = None,
    description: str | None = None,
    acceptance_criteria: Annotated[Sequence[str] | None, Field(description=texts.CRITERIA)] = None,
    priority: Level | None = None,
    estimated_hours: Annotated[float | None, Field(gt=0)] = None,
    blocked_by: BlockedBy = None,
    blocking: Blocking = None,
    assignee: str | None = None,
    labels: Labels = None,
    run: Annotated[str | None, Field(description=texts.SHELL)] = None,
    prompt: Annotated[str | None, Field(description=texts.PROMPT)] = None,
    manual: Annotated[
        bool, Field(description=f"{texts.MANUAL} The tool for it: coord_complete_todo.")
    ] = False,
    gate: Annotated[
        bool | Gate | None,
        Field(
            description=(
                "Start only after coord_run_approve; `on_timeout` applies after `timeout`, such as 24h."
            )
        ),
    ] = None,
    timeout: Annotated[str | None, Field(description=texts.TIMEOUT)] = None,
    resources: Resources = None,
) -> EditedTodo:
    """Set at most one of `run`, `prompt` and `manual`."""
    fields = given_fields(
        task=task,
        repo=repo,
        plan=plan,
        description=description,
        acceptance_criteria=acceptance_criteria,
        priority=priority,
        estimated_hours=estimated_hours,
        blocked_by=blocked_by,
        blocking=blocking,
        assignee=assignee,
        labels=labels,
        gate=gate or None,
        timeout=timeout,
        resources=resources,
        action=_action(run, prompt, manual),
    )
    return edited(EditedTodo, session.coord.manager.create_todo(**fields))


@adds("Complete a todo", "complete_todo")
def coord_complete_todo(
    session: Session,
    todo: TodoName,
    actual_hours: Annotated[float | None, Field(ge=0, description=texts.HOURS)] = None,
) -> EditedTodo:
    """`ready` lists the records that became ready."""
    coord = session.coord
    completed = coord.complete_todo(todo, actual_hours)
    if completed.run_id:
        session.view(coord.runs.get(completed.run_id))
    return edited(
        EditedTodo, completed.edited or Edited(record=coord.manager.get_todo(todo)), run_id=completed.run_id
    )


def _action(run: str | None, prompt: str | None, manual: bool) -> dict[str, Any] | None:
    actions: list[dict[str, Any]] = [{"type": "shell", "run": run}] if run is not None else []
    actions += [{"type": "agent", "prompt": prompt}] if prompt is not None else []
    actions += [{"type": "manual"}] if manual else []
    if len(actions) > 1:
        raise UsageError(
            "run, prompt and manual exclude each other", "give one of them, or none for the configured agent"
        )
    return actions[0] if actions else None


@reads("List plans", "manager.list_plans")
def coord_list_plans(
    session: Session,
    status: AnyOf[PlanStatus] = (),
    repo: AnyOf[str] = (),
    limit: Limit = 100,
    offset: Offset = 0,
) -> Page[Plan]:
    """coord_list_todos(plan=…) lists their todos."""
    return page(session.coord.manager.list_plans(status or None, repo or None), limit, offset)


@checks("Complete a plan or milestones", needs="edit")
def coord_complete_plan(
    session: Session,
    plan: PlanName,
    milestones: Annotated[
        Items, Field(description="Ids of the plan's milestones to complete (default: the plan itself).")
    ] = None,
    force: Annotated[bool, Field(description=f"{texts.FORCE} Only if a person has decided that.")] = False,
    reason: Annotated[str, Field(description=texts.FORCE_REASON)] = "",
) -> EditedPlan:
    """Mark a plan, or milestones of it, as completed; the checks of their criteria are run. Refused over what
    coord_validate_plan with run_checks names as missing.
    """
    changes = {} if milestones else {"status": PlanStatus.COMPLETED}
    manager = session.coord.manager
    done = manager.update_plan(
        plan, changes, complete_milestones=list(milestones or ()), force=force, reason=reason
    )
    return edited(EditedPlan, done)


@reads("Forecast a plan", "planner.forecast")
def coord_forecast_plan(
    session: Session,
    plan: PlanName,
    repos: Annotated[Items, Field(description=texts.TODOS_OF_REPOS)] = None,
    todos: Annotated[Items, Field(description=texts.TODOS)] = None,
    max_parallel: AtOnce = None,
    limit: Most = 30,
) -> CutForecast:
    """Nothing is started."""
    wanted = Selectors(repos=repos or (), todos=todos or ())
    planner = session.coord.planner
    foreseen = planner.forecast(plan, wanted, max_parallel=max_parallel)
    return cut_forecast(foreseen, planner.progress(plan), limit)


@checks("Check a plan", "manager.validate_plan_completion", needs="edit")
def coord_validate_plan(
    session: Session,
    plan: PlanName,
    run_checks: Annotated[bool, Field(description=texts.RUN_CHECKS)] = False,
    limit: Most = 30,
) -> CutPlanCompletion:
    standing = session.coord.manager.validate_plan_completion(plan, run_checks=run_checks)
    return cut(CutPlanCompletion, standing, limit)


@reads("Status of the ecosystem", "records.ecosystem_status")
def coord_get_ecosystem_status(session: Session, limit: Most = 30) -> CutEcosystemStatus:
    """Start here."""
    view = session.coord.records.ecosystem_status()
    return cut(CutEcosystemStatus, view.status, limit, whole=("repos",), breakers=view.breakers)


@reads("Status of a repository", "records.repo_status")
def coord_get_repo_status(session: Session, repo: RepoName, limit: Most = 30) -> CutRepoStatus:
    view = session.coord.records.repo_status(repo)
    return cut(CutRepoStatus, view.status, limit, breaker=view.breaker)


@reads("List dependencies", "manager.list_dependencies")
def coord_list_dependencies(
    session: Session,
    consumer: AnyOf[str] = (),
    provider: AnyOf[str] = (),
    type: AnyOf[DependencyType] = (),
    status: AnyOf[DependencyStatus] = (),
    limit: Limit = 100,
    offset: Offset = 0,
) -> Page[Dependency]:
    found = session.coord.manager.list_dependencies(
        consumer or None, provider or None, type or None, status or None
    )
    return page(found, limit, offset)


@checks("Check dependencies", "manager.check_dependencies")
def coord_check_dependencies(session: Session, consumer: AnyOf[str] = ()) -> DependencyReport:
    return session.coord.manager.check_dependencies(consumer or None)
