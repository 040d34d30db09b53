"""Plans and todos that coord makes and no file has: of landings, checks and `coord exec`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta

from coordination.errors import UsageError
from coordination.models import (
    Coordination,
    Ecosystem,
    LandRules,
    OnFailure,
    Plan,
    PlanStatus,
    Repo,
    Retry,
    ShellAction,
    Strategy,
    Todo,
    Workspace,
    generated_id,
)
from coordination.planner.graph import PlanGraph, build
from coordination.text import is_utf8


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
) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run of only these todos. `plan_id` has a colon, which no id in a
    file may have.
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
