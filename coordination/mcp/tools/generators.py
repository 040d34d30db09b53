"""The tools that execute one command in many repositories, and that propose a plan."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from coordination.api import proposal_schema
from coordination.mcp.answers import TODOS_SHOWN, CutExec, Proposed, cut, duration, given_fields
from coordination.mcp.declaration import AtOnce, Items, Wait, executes, reads
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


APPLY = (
    "Nothing is written. Show todos, warnings and diff to a person, and put the proposal into a file. If the "
    "person agrees, they run: coord plan create --proposal FILE"
)
"""The next step after a proposal."""


@reads("Propose a plan", "plan.preview_proposal")
def coord_propose_plan(
    session: Session,
    proposal: Annotated[dict[str, Any], WithJsonSchema(proposal_schema())],
    repos: SomeRepos = None,
    tags: Tags = None,
    roles: Roles = None,
) -> Proposed:
    """A person writes the plan into the file: the answer says how. Its todos order agents and nothing else;
    each agent sees the text of its todo, so give it all that it needs.
    """
    selected = given_fields(repos=repos, tags=tags, roles=roles)
    made = session.coord.proposals.preview(proposal, **selected).data()
    return Proposed(**dict(made), apply=APPLY)
