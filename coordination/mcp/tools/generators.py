"""Tools on many repositories: plans and todos made for them, and one command in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from coordination.api import GeneratedPlan, texts
from coordination.mcp.answers import TODOS_SHOWN, CutExec, CutGeneratedPlan, cut, duration, given_fields
from coordination.mcp.declaration import AtOnce, Items, Wait, adds, executes, reads
from coordination.mcp.session import Session
from coordination.models import OnFailure, RepoOrder, Template, presentable

LONGEST_OUTPUT = 4000
"""Characters of the output in a repository."""
SomeRepos = Annotated[Items, Field(description=texts.SOME_REPOS)]
Tags = Annotated[Items, Field(description=texts.TAGS)]
Roles = Annotated[Items, Field(description=texts.ROLES)]
AllRepos = Annotated[bool, Field(description=f"{texts.ALL_REPOS} Then repos, tags and roles are empty.")]
DryRun = Annotated[bool, Field(description=texts.PREVIEW_PLAN)]
SweepIt = Annotated[bool, Field(description=f"{texts.SWEEP} The answer has its run_id.")]


@adds("Plan a change of many repositories", "generators.campaign")
def coord_campaign(
    session: Session,
    title: str,
    repos: SomeRepos = None,
    tags: Tags = None,
    roles: Roles = None,
    all_repos: AllRepos = False,
    run: Annotated[str | None, Field(description=texts.CHANGE_COMMAND)] = None,
    prompt: Annotated[str | None, Field(description=texts.CHANGE_PROMPT)] = None,
    check: Annotated[
        str | None,
        Field(description=texts.CHECK_COMMAND),
    ] = None,
    order: Annotated[
        RepoOrder,
        Field(description=f"{texts.ORDER} deps or none."),
    ] = RepoOrder.DEPS,
    on_failure: OnFailure = OnFailure.CONTINUE,
    sweep: SweepIt = False,
    dry_run: DryRun = False,
) -> CutGeneratedPlan:
    """Call it with dry_run first. Run the plan with coord_run_sweep."""
    return answer(
        session.coord.generators.campaign(
            **given_fields(
                title=title,
                repos=repos,
                tags=tags,
                roles=roles,
                all_repos=all_repos,
                run=run,
                prompt=prompt,
                check=check,
                order=order,
                on_failure=on_failure,
                sweep=sweep,
                dry_run=dry_run,
            )
        )
    )


@reads("List the templates of plans", "generators.templates")
def coord_list_templates(session: Session) -> Sequence[Template]:
    """Make a plan of one with coord_create_plan_from_template."""
    return session.coord.generators.templates()


@adds("Create a plan from a template", "generators.create_plan_from_template")
def coord_create_plan_from_template(
    session: Session,
    template: Annotated[str, Field(description="A template's name, as coord_list_templates gives it.")],
    values: Annotated[
        dict[str, str | int | float | bool] | None, Field(description="Parameter of the template: its value.")
    ] = None,
    repos: SomeRepos = None,
    tags: Tags = None,
    roles: Roles = None,
    all_repos: AllRepos = False,
    title: Annotated[str | None, Field(description="Replaces the title of the template.")] = None,
    sweep: SweepIt = False,
    dry_run: DryRun = False,
) -> CutGeneratedPlan:
    """Call it with dry_run first. Run the plan with coord_run_sweep."""
    arguments = given_fields(
        template=template,
        values=values,
        repos=repos,
        tags=tags,
        roles=roles,
        all_repos=all_repos,
        sweep=sweep,
        dry_run=dry_run,
    )
    fields = {"title": title} if title else {}
    return answer(session.coord.generators.create_plan_from_template(**arguments, fields=fields))


@executes("Run one command in many repositories", "commands.exec")
def coord_exec(
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


def answer(made: GeneratedPlan) -> CutGeneratedPlan:
    """Return a generated plan without the secrets of its todos, and not more of them than an agent reads."""
    shown = made.model_copy(update={"todos": tuple(map(presentable, made.todos))})
    return cut(CutGeneratedPlan, shown, TODOS_SHOWN)
