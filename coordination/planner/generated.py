"""Plans and todos that coord makes and no file has: of landings, checks, repairs, `coord exec`, proposals."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from coordination.errors import UsageError
from coordination.models import (
    AgentAction,
    Coordination,
    Ecosystem,
    LandRules,
    OnFailure,
    Plan,
    PlanBudget,
    PlanStatus,
    Repo,
    Retry,
    ShellAction,
    Strategy,
    Todo,
    Workspace,
    criteria_in_words,
    generated_id,
    without_secrets,
)
from coordination.planner.checks import repair_todo
from coordination.planner.graph import PlanGraph, build
from coordination.text import is_utf8, shortened


def generated_plan(
    ecosystem: Ecosystem,
    plan_id: str,
    title: str,
    todos: Sequence[Todo],
    *,
    repos: Sequence[str],
    on_failure: OnFailure,
    two_persons: bool = False,
    land: LandRules | None = None,
    budget: PlanBudget | None = None,
) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run of only these todos. `plan_id`: that of the plan whose change
    set they write, else one with a colon, which no id in a file may have.
    """
    plan = Plan(
        id="generated",
        title=title,
        status=PlanStatus.ACTIVE,
        repos=tuple(repos),
        strategy=Strategy.DATAFLOW,
        on_failure=on_failure,
        two_persons=two_persons,
        land=land,
        budget=budget,
    ).model_copy(update={"id": plan_id})
    # not validated again: only coord makes plans and todos like these
    coordination = Coordination(id=ecosystem.coordination.id).model_copy(
        update={"plans": (plan,), "todos": tuple(todos)}
    )
    records = ecosystem.model_copy(update={"coordination": coordination})
    return records, build(records, plan_id)


EXEC = "exec"


def command_of(arguments: Sequence[str]) -> str | tuple[str, ...]:
    """Return the command of these arguments: several run without a shell, one alone is a command for sh.

    Raises UsageError without a command, and for text that no record can hold.
    """
    if not any(argument.strip() for argument in arguments):
        raise UsageError("there is no command", "write it after two dashes: coord exec --all -- git status")
    if not is_utf8("".join(arguments)):
        raise UsageError("the command is not UTF-8", "write it in UTF-8")
    if "\0" in "".join(arguments):
        raise UsageError("the command has a null character", "no program can be given one: remove it")
    if len(arguments) == 1:
        return arguments[0]
    # a record holds no empty argument
    return tuple(arguments) if all(arguments) else shlex.join(arguments)


def exec_todo(name: str, repo: str) -> str:
    """Return the id of the todo of a repository: `exec-abcd-api`, shortened by a digest where it is long."""
    return generated_id(f"{EXEC}-{name}-{repo}", "-")


def command_graph(
    ecosystem: Ecosystem,
    repos: Sequence[Repo],
    command: str | tuple[str, ...],
    name: str,
    *,
    timeout: timedelta | None = None,
) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run of the command in these repositories, without dependencies.
    `name`: makes the ids of the run unique. A todo that leaves a changed worktree fails.
    """
    shown = command if isinstance(command, str) else shlex.join(command)
    todos = tuple(
        Todo(
            id=exec_todo(name, repo.name),
            task=shown,
            repo=repo.name,
            action=ShellAction(type="shell", run=command, read_only=True),
            retry=Retry(attempts=1),
            workspace=Workspace.WORKTREE,
            timeout=timeout,
        )
        for repo in repos
    )
    names = tuple(repo.name for repo in repos)
    title, on_failure = f"{EXEC}: {shown}", OnFailure.CONTINUE
    return generated_plan(ecosystem, f"{EXEC}:{name}", title, todos, repos=names, on_failure=on_failure)


def repair_graph(
    ecosystem: Ecosystem, plan: Plan, prompts: Mapping[str, str], made: Collection[str]
) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run in which agents repair the change set of a plan. `prompts`:
    repository → what is to be repaired; `made`: the todos whose work is in the change set.
    """
    repos = {repo.name: repo for repo in ecosystem.repos}
    todos = []
    for name, prompt in prompts.items():
        before = [
            todo.working_in(repos[name])
            for todo in ecosystem.todos_of(plan)
            if todo.repo == name and todo.id in made
        ]
        todos.append(_repair_of(plan.id, repos[name], before, prompt))
    return generated_plan(
        ecosystem,
        plan.id,
        plan.title,
        todos,
        repos=tuple(prompts),
        on_failure=OnFailure.CONTINUE,
        two_persons=plan.two_persons,
        land=plan.land,
        budget=plan.budget,
    )


def _repair_of(plan: str, repo: Repo, before: Sequence[Todo], prompt: str) -> Todo:
    """Return a todo with the agent, checks and paths of the agents' todos before it. What it reads was
    written by others: it has none of their secrets, and a sandbox unless its repository has none.
    """
    agents = [(todo, todo.action) for todo in before if isinstance(todo.action, AgentAction)]
    actions = [action for _, action in agents]
    action = AgentAction(type="agent", prompt=prompt)
    todo = Todo(id=repair_todo(plan, repo.name), task=f"repair {repo.name}", repo=repo.name)
    if agents:
        last, its_action = agents[-1]
        action = its_action.model_copy(
            update={
                "prompt": prompt,
                "verify": tuple(dict.fromkeys(check for one in actions for check in one.verify or ())),
                "rounds": max(one.rounds for one in actions),
                "paths": _allowed([one.paths for one in actions]),
                "reads": tuple(dict.fromkeys(name for one in actions for name in one.reads)),
                "continues": last.id,
            }
        )
        kept = {name: getattr(last, name) for name in ("timeout", "retry", "resources")}
        confined = (one.sandbox for one, _ in reversed(agents) if one.sandbox and one.sandbox.kind != "off")
        todo = todo.model_copy(
            update={**kept, "env": without_secrets(last.env), "sandbox": next(confined, None)}
        )
    judged = tuple(text for _, text in criteria_in_words(before))
    own = {"action": action, "workspace": Workspace.WORKTREE, "acceptance_criteria": judged}
    return todo.model_copy(update=own).working_in(repo)


def _allowed(paths: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the paths that one of several todos may change, without those that one of them may not."""
    refused = [path for some in paths for path in some if path.startswith("!")]
    allowed = [[path for path in some if not path.startswith("!")] for some in paths]
    named = [path for some in allowed for path in some] if all(allowed) else []
    return tuple(dict.fromkeys((*named, *refused)))


PROPOSE = "propose"
IN_NO_FILE = (f"{EXEC}:", f"{PROPOSE}:")
"""Beginnings of the plan ids of runs whose todos no file has, and that may be retried."""


def proposal_graph(
    ecosystem: Ecosystem, repos: Sequence[Repo], title: str, prompt: str, name: str, agent: str | None
) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run in which an agent proposes a plan for these repositories. It
    works in the first one, reads the others, and changes nothing. `agent`: None for that of the settings.
    """
    place, *others = (repo.name for repo in repos)
    action = AgentAction(
        type="agent",
        prompt=prompt,
        agent=(agent,) if agent else (),
        verify=(),
        reads=tuple(others),
        read_only=True,
    )
    todo = Todo(
        id=f"{PROPOSE}-{name}",
        task=shortened(f"propose a plan: {title}", 200),
        repo=place,
        action=action,
        retry=Retry(attempts=1),
        workspace=Workspace.WORKTREE,
    )
    plan = f"{PROPOSE}:{name}"
    return generated_plan(ecosystem, plan, todo.task, [todo], repos=[place], on_failure=OnFailure.CONTINUE)
