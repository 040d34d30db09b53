"""From a template and the selected repositories to the fields of a plan and of its todos; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from coordination.errors import Conflict, PlanRefused
from coordination.models import CheckKind, Dependency, Ecosystem, PlanStatus, QaAction, Repo, generated_id
from coordination.models.templates import RepoOrder, Template, TemplateStep
from coordination.tracker.edit.validation import fields_of
from coordination.tracker.generate.values import Values, replaced, variables

OPEN_PLAN = frozenset({PlanStatus.DRAFT, PlanStatus.ACTIVE, PlanStatus.ON_HOLD})
Fields = dict[str, Any]


def plan_fields(template: Template, values: Values, repos: Sequence[Repo]) -> Fields:
    """Return the fields of the plan, without its id."""
    fields: Fields = replaced(fields_of(template.plan), values)
    return {**fields, "status": str(PlanStatus.ACTIVE), "repos": [repo.name for repo in repos]}


def refuse_same_title(ecosystem: Ecosystem, title: str) -> None:
    """Raise Conflict where an open plan has the title: the same call was made before."""
    for plan in ecosystem.coordination.plans:
        if plan.title == title and plan.status in OPEN_PLAN:
            raise Conflict(
                f"{plan.id} has this title, and is {plan.status}",
                f"run it: coord sweep {plan.id}; or choose another title for another plan",
            )


def todo_fields(
    template: Template, values: Values, plan_id: str, repos: Sequence[Repo], ecosystem: Ecosystem
) -> list[Fields]:
    """Return the fields of the todos, those that others wait for first. Raises PlanRefused for repositories
    that depend on each other in a circle.
    """
    by_name = {repo.name: repo for repo in repos}
    deps = ecosystem.coordination.dependencies if template.order is RepoOrder.DEPS else ()
    found: list[Fields] = []
    ends: dict[str, list[str]] = {}
    for name, providers in in_order(by_name, deps):
        before = [end for provider in providers for end in ends[provider]]
        for step in template.steps:
            for group in _expanded(step, by_name[name]):
                made = [_todo(one, {**values, "repo": name, "plan": plan_id}, before) for one in group]
                found += made
                before = [todo["id"] for todo in made]
        ends[name] = before
    return found


def without_check(template: Template, repos: Iterable[Repo]) -> tuple[str, ...]:
    """Return the repositories where a step that runs their own checks has none to run."""
    if not any(map(runs_own_checks, template.steps)):
        return ()
    return tuple(repo.name for repo in repos if not repo.qa)


def runs_own_checks(step: TemplateStep) -> bool:
    """Return whether the step runs all checks that a repository declares."""
    action = step.action
    return isinstance(action, QaAction) and action.check is None and action.run is None


def _expanded(step: TemplateStep, repo: Repo) -> list[list[TemplateStep]]:
    """Return the step; of one that runs the repository's own checks a step for each, in groups of one kind
    that wait for each other.
    """
    if not runs_own_checks(step) or len(repo.qa) == 1:
        return [[step]]
    kinds = [[check.name for check in repo.qa if check.kind is kind] for kind in CheckKind]
    return [[_checking(step, name) for name in names] for names in kinds if names]


def _checking(step: TemplateStep, check: str) -> TemplateStep:
    action = step.action
    assert isinstance(action, QaAction)
    given = {**fields_of(action), "check": check}
    return step.model_copy(update={"id": f"{step.id}-{check}", "action": QaAction.model_validate(given)})


def todo_id(plan_id: str, step: str, repo: str) -> str:
    """Return `PLAN-001-change-api`, shortened by a digest where it is long."""
    return generated_id(f"{plan_id}-{step}-{repo}", "-")


def _todo(step: TemplateStep, values: Values, before: Sequence[str]) -> Fields:
    given = fields_of(step)
    commands = {name: given.pop(name) for name in ("action", "compensate") if _is_shell(given.get(name))}
    fields: Fields = {
        **replaced(given, values),
        **{name: _bare(command) for name, command in commands.items()},
        "id": todo_id(values["plan"], step.id, values["repo"]),
        "repo": values["repo"],
        "plan": values["plan"],
    }
    env = fields.get("env", {})
    for command in commands.values():
        env = {**variables(command["run"], values), **env}
    if env:
        fields["env"] = env
    if before:
        fields["blocked_by"] = list(before)
    return fields


def _is_shell(action: object) -> bool:
    return isinstance(action, Mapping) and action.get("type") == "shell"


def _bare(action: Mapping[str, Any]) -> Any:
    """Return a command as people write it, if it is nothing but a command."""
    return action["run"] if set(action) == {"type", "run"} else action


def in_order(names: Collection[str], dependencies: Iterable[Dependency]) -> list[tuple[str, tuple[str, ...]]]:
    """Return each repository with those of `names` that it waits for, which come first. A chain through
    repositories that are not among them counts.

    Raises PlanRefused for a circle.
    """
    needs: dict[str, dict[str, None]] = {}
    for dependency in dependencies:
        if dependency.consumer != dependency.provider:
            needs.setdefault(dependency.consumer, {})[dependency.provider] = None
    chosen = dict.fromkeys(names)
    before = {name: _nearest(name, needs, chosen) for name in chosen}
    try:
        order = TopologicalSorter(before).static_order()
        return [(name, before[name]) for name in order]
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise PlanRefused(
            f"these repositories depend on each other in a circle: {circle}",
            "leave the order open: --order none; or correct the dependencies: coord list-deps",
        ) from error


def _nearest(name: str, needs: Mapping[str, Collection[str]], chosen: Collection[str]) -> tuple[str, ...]:
    """Return the chosen repositories that this one needs, directly or through others that are not chosen."""
    found: dict[str, None] = {}
    seen, ahead = {name}, list(needs.get(name, ()))
    while ahead:
        other = ahead.pop(0)
        if other in seen:
            continue
        seen.add(other)
        if other in chosen:
            found[other] = None
        else:
            ahead += needs.get(other, ())
    return tuple(found)
