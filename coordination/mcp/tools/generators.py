"""The tool that executes one command in many repositories."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.mcp.answers import TODOS_SHOWN, CutExec, cut, duration, given_fields
from coordination.mcp.declaration import AtOnce, Items, Wait, executes
from coordination.mcp.session import Session

LONGEST_OUTPUT = 4000
"""Characters of the output in a repository."""
SomeRepos = Annotated[Items, Field(description="Select these repositories.")]
Tags = Annotated[Items, Field(description="Select the repositories with one of these tags.")]
Roles = Annotated[Items, Field(description="Select the repositories with one of these roles.")]
AllRepos = Annotated[
    bool, Field(description="Select all repositories of the file. Then repos, tags and roles are empty.")
]


@executes("Run one command in many repositories", "repo.exec")
def coord_repo_exec(
    session: Session,
    command: Annotated[
        str | list[str], Field(description="A text runs in sh, a list of words without a shell.")
    ],
    repos: SomeRepos = None,
    tags: Tags = None,
    roles: Roles = None,
    all_repos: AllRepos = False,
    jobs: AtOnce = None,
    timeout_s: Annotated[
        float | None, Field(gt=0, le=31_536_000, description="Stop it in a repository after this time.")
    ] = None,
    wait_s: Wait = 60,
) -> CutExec:
    """It returns the output of the command in each repository. If the run has not ended after wait_s, follow
    it with coord_run_show, and read its output with coord_run_logs.
    """
    arguments = given_fields(
        command=command, repos=repos, tags=tags, roles=roles, all_repos=all_repos, jobs=jobs
    )
    commands = session.coord.commands
    run = commands.exec(**arguments, timeout=duration(timeout_s))
    view = session.detached(run, wait_s)
    outputs = commands.outputs(run, view)[:TODOS_SHOWN]
    ends = tuple(one.model_copy(update={"output": one.output[-LONGEST_OUTPUT:]}) for one in outputs)
    return cut(CutExec, view, TODOS_SHOWN).model_copy(update={"outputs": ends})
