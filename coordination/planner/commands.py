"""The plan of one command for many repositories, in memory only: `coord exec`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from coordination.errors import UsageError
from coordination.models import (
    Ecosystem,
    OnFailure,
    Plan,
    PlanStatus,
    Repo,
    Retry,
    ShellAction,
    Strategy,
    Todo,
    Workspace,
)

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph

EXEC = "exec"
LONGEST_ID = 100


def command_of(words: Sequence[str]) -> str | tuple[str, ...]:
    """Return the command of these words: several run without a shell, one alone is a command for sh.

    Raises UsageError without a command, and for text that no record can hold.
    """
    if not any(word.strip() for word in words):
        raise UsageError("there is no command", "write it behind two dashes: coord exec --all -- git status")
    try:
        "".join(words).encode()
    except UnicodeEncodeError as error:
        raise UsageError("the command is not UTF-8", "write it in UTF-8") from error
    if "\0" in "".join(words):
        raise UsageError("the command has a null character", "no program can be given one: remove it")
    if len(words) == 1:
        return words[0]
    # a record has no empty words
    return tuple(words) if all(words) else shlex.join(words)


def exec_todo(name: str, repo: str) -> str:
    """Return the id of the todo of a repository: `exec-abcd-api`, shortened by a digest where it is long."""
    found = f"{EXEC}-{name}-{repo}"
    if len(found) <= LONGEST_ID:
        return found
    return f"{found[: LONGEST_ID - 13]}-{sha256(found.encode()).hexdigest()[:12]}"


def command_graph(
    ecosystem: Ecosystem,
    repos: Sequence[Repo],
    command: str | tuple[str, ...],
    name: str,
    *,
    timeout: timedelta | None = None,
) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run of the command in these repositories, which wait for
    nothing. `name`: makes the ids unlike those of any other run. A todo that leaves a changed worktree fails.
    """
    from coordination.planner.graph import build

    # no plan of the file has a colon in its id
    plan_id = f"{EXEC}:{name}"
    shown = command if isinstance(command, str) else shlex.join(command)
    plan = Plan(
        id=EXEC,
        title=f"{EXEC}: {shown}",
        status=PlanStatus.ACTIVE,
        repos=tuple(repo.name for repo in repos),
        strategy=Strategy.DATAFLOW,
        on_failure=OnFailure.CONTINUE,
    ).model_copy(update={"id": plan_id})
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
    records = ecosystem.with_coordination(plans=(plan,), todos=todos, issues=())
    return records, build(records, plan_id)
