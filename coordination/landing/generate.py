"""Make the graph of a run that lands or reverts a change set; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordination.models import (
    Atomic,
    Ecosystem,
    Gate,
    LandAction,
    LandCheck,
    LandRules,
    LandStep,
    NoopAction,
    OnFailure,
    QaAction,
    Retry,
    RevertAction,
    Todo,
    Via,
    Workspace,
    generated_id,
)
from coordination.planner.checks import Needs, check_todos
from coordination.planner.generated import generated_plan
from coordination.runs.records import LAND, QA, REVERT

if TYPE_CHECKING:
    from coordination.landing.rules import Landing, RepoLanding
    from coordination.planner.graph import PlanGraph

CHECK, LOCKS = "check", "locks"
ONCE = Retry(attempts=1)
"""Land todos wait out passing trouble by themselves."""


def todo_id(change_set: str, what: str, repo: str = "") -> str:
    """Return the name of a todo of a landing: `PLAN-001.land.api`, shortened by a digest where it is long."""
    return generated_id(".".join(filter(None, (change_set, what, repo))))


def run_plan_id(change_set: str, what: str) -> str:
    """Return the plan's id of a run that lands or reverts: no plan of the file has a colon in its id."""
    return f"{what}:{change_set}"


def landing_graph(ecosystem: Ecosystem, landing: Landing) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a landing run."""
    whole = landing.atomic is Atomic.PLAN
    checks = check_todos_of(ecosystem, landing) if landing.qa else []
    locks = todo_id(landing.change_set, LOCKS)
    looks = [_check(landing, one, [] if whole else [locks]) for one in landing.repos]
    barrier = _barrier(landing, [todo.id for todo in (*looks, *checks)] if whole else [])
    lands = [
        _land(landing, one, locks if whole else look.id, [todo for todo in checks if todo.repo == one.repo])
        for one, look in zip(landing.repos, looks, strict=True)
    ]
    todos = (*looks, *checks, barrier, *lands)
    on_failure = OnFailure.ROLLBACK if whole else OnFailure.CONTINUE
    return _graph(ecosystem, landing, LAND, todos, on_failure)


def check_todos_of(ecosystem: Ecosystem, landing: Landing) -> list[Todo]:
    """Return the todos of the checks that must be green before anything lands: at the commits that the
    landing has prepared, and in repositories that do not land, but are needed, at their base branches.
    """
    needs, names = Needs(ecosystem), landing.names
    after = {
        repo: [
            todo_id(landing.change_set, CHECK, one) for one in names if one == repo or one in needs.of(repo)
        ]
        for repo in names
    }
    todos = check_todos(ecosystem, names, prefix=f"{landing.change_set}.{QA}", after=after, stated=names)
    repos = {repo.name: repo for repo in ecosystem.repos}
    ours = (todo.model_copy(update={"workspace": Workspace.WORKTREE}) for todo in todos)
    return [todo.working_in(repos[todo.repo]) for todo in ours]


def revert_graph(ecosystem: Ecosystem, revert: Landing) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run that reverts. A failure stops no other repository: what can
    be reverted is.
    """
    barrier = _barrier(revert, [])
    todos = (barrier, *(_revert(revert, one, barrier.id) for one in revert.repos))
    return _graph(ecosystem, revert, REVERT, todos, OnFailure.CONTINUE)


def _graph(
    ecosystem: Ecosystem, landing: Landing, what: str, todos: Sequence[Todo], on_failure: OnFailure
) -> tuple[Ecosystem, PlanGraph]:
    return generated_plan(
        ecosystem,
        run_plan_id(landing.change_set, what),
        f"{what} {landing.change_set}: {landing.title}",
        todos,
        repos=tuple(dict.fromkeys((*landing.names, *(todo.repo for todo in todos)))),
        on_failure=on_failure,
        two_persons=landing.two_persons,
        land=LandRules(via=Via.LOCAL) if all(one.via is Via.LOCAL for one in landing.repos) else None,
    )


def _barrier(landing: Landing, after: Sequence[str]) -> Todo:
    names = ", ".join(landing.names)
    return Todo(
        id=todo_id(landing.change_set, LOCKS),
        task=f"take the landing locks of {names}",
        repo=landing.repos[0].repo,
        blocked_by=tuple(after),
        action=NoopAction(type="noop", holds=landing.names),
        gate=Gate() if landing.has_gate else None,
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def _check(landing: Landing, one: RepoLanding, after: Sequence[str]) -> Todo:
    return Todo(
        id=todo_id(landing.change_set, CHECK, one.repo),
        task=f"try whether {landing.change_set} can land in {one.branch} of {one.repo}",
        repo=one.repo,
        blocked_by=tuple(after),
        action=_land_action(landing, one, LandStep.CHECK, ()),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def _land(landing: Landing, one: RepoLanding, after: str, checks: Sequence[Todo]) -> Todo:
    before = [todo_id(landing.change_set, LAND, repo) for repo in one.after]
    resources = {need.name: need for todo in checks for need in todo.resources}
    return Todo(
        id=todo_id(landing.change_set, LAND, one.repo),
        task=f"land {landing.change_set} in {one.branch} of {one.repo}",
        repo=one.repo,
        blocked_by=(after, *(todo.id for todo in checks), *before),
        resources=tuple(resources.values()),
        action=_land_action(landing, one, LandStep.LAND, checks),
        compensate=RevertAction(
            type="revert",
            change_set=landing.change_set,
            via=one.via,
            tip=one.change.tip,
            title=_title("Revert", landing),
            patience=landing.patience,
        ),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def _land_action(landing: Landing, one: RepoLanding, step: LandStep, checks: Sequence[Todo]) -> LandAction:
    return LandAction(
        type="land",
        step=step,
        change_set=landing.change_set,
        tip=one.change.tip,
        via=one.via,
        method=landing.method,
        title=_title("Land", landing),
        patience=landing.patience,
        stated=landing.qa,
        approvals=landing.approvals if one.request else 0,
        after_upstream=landing.after_upstream if one.request else (),
        when_ready=landing.when_ready and one.request is not None,
        request=one.request,
        checks=tuple(
            LandCheck(todo=todo.id, action=todo.action, timeout=todo.timeout)
            for todo in checks
            if isinstance(todo.action, QaAction)
        ),
    )


def _revert(revert: Landing, one: RepoLanding, barrier: str) -> Todo:
    before = [todo_id(revert.change_set, REVERT, repo) for repo in one.after]
    return Todo(
        id=todo_id(revert.change_set, REVERT, one.repo),
        task=f"take {revert.change_set} out of {one.branch} of {one.repo}",
        repo=one.repo,
        blocked_by=(barrier, *before),
        action=RevertAction(
            type="revert",
            change_set=revert.change_set,
            via=one.via,
            tip=one.change.tip,
            commit=one.landed.commit,
            before=one.landed.tree_before,
            title=_title("Revert", revert),
            patience=revert.patience,
        ),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def _title(verb: str, landing: Landing) -> str:
    title = "".join(character for character in " ".join(landing.title.split()) if character.isprintable())
    words = f"{verb} {landing.change_set}: {title}"
    return words if len(words) <= 72 else f"{words[:71]}…"
