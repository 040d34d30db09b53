"""Generate the fields of a plan and its todos from a template and the selected repositories.

A value never becomes a part of a command for a shell. `${version}` stays in the command, where it is the
shell's own spelling of a variable, and the todo gets the variable in its `env`. So a value like `1; rm -rf /`
is one word of the command, and no second command. In other texts (titles, tasks, prompts, patterns, arguments
of a function) the value replaces it once: a `${…}` inside of a value stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from coordination.errors import Conflict, NotFound, PlanRefused, UsageError
from coordination.models import (
    AgentAction,
    CheckKind,
    Dependency,
    Ecosystem,
    OnFailure,
    PlanStatus,
    QaAction,
    Repo,
    ShellAction,
    generated_id,
)
from coordination.models.templates import (
    REFERENCE,
    VARIABLE,
    Parameter,
    RepoOrder,
    Template,
    TemplatePlan,
    TemplateStep,
)
from coordination.text import cycle_text, did_you_mean, is_utf8, limit, listed
from coordination.tracker.kinds import OPEN_PLAN
from coordination.tracker.transaction import fields_of

CHANGE, CHECK = "change", "check"
"""The steps of a campaign."""
Command = str | Sequence[str]
Fields = dict[str, Any]
Values = Mapping[str, str]
"""Parameter → its text."""
SHIPPED = Path(__file__).with_name("templates.yaml")


def templates_of(ecosystem: Ecosystem) -> tuple[Template, ...]:
    """Return all templates; one of the file takes the place of a shipped one of the same name."""
    own = ecosystem.coordination.templates
    names = {template.name for template in own}
    shipped = (Template.model_validate(fields) for fields in yaml.safe_load(SHIPPED.read_text()))
    return (*own, *(template for template in shipped if template.name not in names))


def find_template(ecosystem: Ecosystem, name: str) -> Template:
    """Return the template of that name. Raises NotFound."""
    by_name = {template.name: template for template in templates_of(ecosystem)}
    if name not in by_name:
        raise NotFound(
            f"there is no template {name!r}{did_you_mean(name, by_name)}", "list them: coord template list"
        )
    return by_name[name]


def read_values(template: Template, arguments: Mapping[str, object]) -> Values:
    """Return the text of every parameter. Raises UsageError with all problems at once."""
    see = f"see its parameters: coord template show {template.name}"
    parameters = {parameter.name: parameter for parameter in template.parameters}
    problems = [
        f"there is no parameter {name!r}{did_you_mean(name, parameters)}"
        for name in arguments
        if name not in parameters
    ]
    missing = [p.name for p in template.parameters if p.is_required and arguments.get(p.name) is None]
    if missing:
        options = " ".join(f"--set {name}=…" for name in missing)
        problems.append(f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing: {options}")
    values = {}
    for name, parameter in parameters.items():
        value = arguments.get(name)
        try:
            values[name] = parameter.empty if value is None else parameter.read(value)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UsageError(f"template {template.name}: {'; '.join(problems)}", see)
    return values


def replace_parameters(value: Any, values: Values) -> Any:
    """Return a value of JSON's kinds with the parameters in its texts replaced, each once."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda found: _replacement(found, values), value)
    if isinstance(value, Mapping):
        return {name: replace_parameters(inner, values) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replace_parameters(inner, values) for inner in value]
    return value


def _replacement(found: re.Match[str], values: Values) -> str:
    escaped, name = found.groups()
    if escaped:
        return found.group().removeprefix("$")
    return values.get(name, found.group())


def variables(command: object, values: Values) -> dict[str, str]:
    """Return the parameters that a command for a shell names, as its environment variables."""
    named = dict.fromkeys(VARIABLE.findall(command)) if isinstance(command, str) else {}
    return {name: values[name] for name in named if name in values}


def plan_fields(template: Template, values: Values, repos: Sequence[Repo]) -> Fields:
    """Return the fields of the plan, without its id."""
    fields: Fields = replace_parameters(fields_of(template.plan), values)
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
    fields_of_todos: list[Fields] = []
    ends: dict[str, list[str]] = {}
    for name, providers in in_dependency_order(by_name, deps):
        before = [end for provider in providers for end in ends[provider]]
        for step in template.steps:
            for group in _expanded(step, by_name[name]):
                made = [_todo(one, {**values, "repo": name, "plan": plan_id}, before) for one in group]
                fields_of_todos += made
                before = [todo["id"] for todo in made]
        ends[name] = before
    return fields_of_todos


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
    fields = {**fields_of(action), "check": check}
    return step.model_copy(update={"id": f"{step.id}-{check}", "action": QaAction.model_validate(fields)})


def todo_id(plan_id: str, step: str, repo: str) -> str:
    """Return `PLAN-001-change-api`, shortened by a digest where it is long."""
    return generated_id(f"{plan_id}-{step}-{repo}", "-")


def _todo(step: TemplateStep, values: Values, before: Sequence[str]) -> Fields:
    texts = fields_of(step)
    commands = {name: texts.pop(name) for name in ("action", "compensate") if _is_shell(texts.get(name))}
    fields: Fields = {
        **replace_parameters(texts, values),
        **{name: _short_action(command) for name, command in commands.items()},
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


def _short_action(action: Mapping[str, Any]) -> Any:
    """Return a command as people write it, if it is nothing but a command."""
    return action["run"] if set(action) == {"type", "run"} else action


def in_dependency_order(
    names: Collection[str], dependencies: Iterable[Dependency]
) -> list[tuple[str, tuple[str, ...]]]:
    """Return each repository with those of `names` that it waits for, which come first. A chain through
    repositories that are not among them counts.

    Raises PlanRefused for a circle.
    """
    needs: dict[str, dict[str, None]] = {}
    for dependency in dependencies:
        if dependency.consumer != dependency.provider:
            needs.setdefault(dependency.consumer, {})[dependency.provider] = None
    chosen = dict.fromkeys(names)
    before = {name: _nearest_providers(name, needs, chosen) for name in chosen}
    try:
        order = TopologicalSorter(before).static_order()
        return [(name, before[name]) for name in order]
    except CycleError as error:
        circle = cycle_text(error.args[1])
        raise PlanRefused(
            f"these repositories depend on each other in a circle: {circle}",
            "leave the order open: --order none; or correct the dependencies: coord dep list",
        ) from error


def _nearest_providers(
    name: str, needs: Mapping[str, Collection[str]], chosen: Collection[str]
) -> tuple[str, ...]:
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


def campaign_template(
    *,
    run: Command | None = None,
    prompt: str | None = None,
    check: Command | None = None,
    order: RepoOrder = RepoOrder.DEPS,
    on_failure: OnFailure = OnFailure.CONTINUE,
) -> Template:
    """Return the template of a campaign, with the parameter `title`. `run` or `prompt`: the change, by a
    command or by an agent; `check`: a command that succeeds if the change is good, and changes no file (None:
    the checks that each repository declares).

    Raises UsageError unless there is one change.
    """
    if (run is None) is (prompt is None):
        changes = "no change" if run is None else "two changes"
        raise UsageError(
            f"the campaign has {changes}", "give it --run COMMAND, or --prompt TEXT for an agent"
        )
    if not all(is_utf8("".join(command or ())) for command in (run, prompt, check)):
        raise UsageError("the command or the prompt is not UTF-8", "write it in UTF-8")
    try:
        action = _shell(run) if run is not None else AgentAction(type="agent", prompt=_literal(prompt or ""))
        checking = QaAction(type="qa") if check is None else _shell(check, read_only=True)
        return Template(
            name="campaign",
            parameters=(Parameter(name="title"),),
            order=order,
            plan=TemplatePlan(title="${title}", on_failure=on_failure),
            steps=(
                TemplateStep(id=CHANGE, task="${title}", action=action),
                TemplateStep(id=CHECK, task="check: ${title}", action=checking),
            ),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"the command or the prompt {limit(first)}", "correct it and try again: coord campaign --help"
        ) from error


def _shell(command: Command, *, read_only: bool = False) -> ShellAction:
    run = command if isinstance(command, str) else tuple(command)
    return ShellAction(type="shell", run=run, **({"read_only": True} if read_only else {}))


def _literal(text: str) -> str:
    """Return a user's text, escaped so that nothing in it is read as a parameter."""
    return text.replace("${", "$${")
