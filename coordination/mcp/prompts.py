"""How an agent is set to work on a change across repositories."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fastmcp import FastMCP
from fastmcp.exceptions import PromptError
from fastmcp.prompts import Prompt, PromptArgument

from coordination.mcp.errors import told
from coordination.mcp.session import Session
from coordination.models import Plan, Repo
from coordination.tracker.manager import CoordinationManager
from coordination.tracker.states import OPEN

ARGUMENTS = [  # FastMCP's own explain to people how JSON is written
    PromptArgument(name="change", description="What is to change, in your words.", required=True),
    PromptArgument(name="repos", description="Only these repositories, with commas; none: all of them."),
]
WAY = """\
How to go about it:
1. Find out which of these repositories the change touches, and read their code where you can.
2. Look at what is under way: coord_list_plans, coord_list_todos(repo=…), coord_get_blocking_issues(repo=…). Do not plan twice.
3. If the change is not recorded yet, create an issue for it: coord_create_issue, with the repositories it touches.
4. Cut the work into todos, each in one repository, each of a size that one person or agent does in one go, with criteria by
   which it counts as done. Providers come before their consumers: see the dependencies above. If a plan should hold them
   together that does not exist yet, ask for it to be created: coord create-plan --title … --repos …
5. coord_create_todo for each, in that order: `plan`, `repo`, `task`, `estimated_hours`, `acceptance_criteria`, `blocked_by` (the
   ids of the todos that come before it), `run` where a command does the work. Without a command, the configured agent does it.
6. coord_forecast_plan shows the order and how long it takes. Show it to the person who asked; run it only when they agree:
   coord_sweep_plan, then coord_get_run.
"""


def add(server: FastMCP, office: Session) -> None:
    def plan_change(change: str, repos: str = "") -> str:
        """Plan a change across repositories: todos in order, from what is declared."""
        with told(PromptError):
            return _brief(office.coord.manager, change, [name.strip() for name in repos.split(",") if name.strip()])

    prompt = Prompt.from_function(plan_change, title="Plan this change across my repositories")
    server.add_prompt(prompt.model_copy(update={"arguments": ARGUMENTS}))


def _brief(manager: CoordinationManager, change: str, names: Collection[str]) -> str:
    repos = [manager.get_repo(name) for name in names] if names else manager.ecosystem.repos
    shown = {repo.name for repo in repos}
    parts = (
        f"Plan this change across my repositories:\n\n{change}\n",
        _section("Repositories", (_repo(repo) for repo in repos)),
        _section("Dependencies (consumer needs provider)", _dependencies(manager, shown)),
        _section("Open plans", (_plan(manager, plan) for plan in manager.list_plans() if plan.status in OPEN)),
        WAY,
    )
    return "\n".join(parts)


def _section(title: str, lines: Iterable[str]) -> str:
    return f"{title}:\n" + ("\n".join(f"- {line}" for line in lines) or "- none") + "\n"


def _repo(repo: Repo) -> str:
    facts = [repo.role or "", ", ".join(repo.tags), repo.path or repo.url or ""]
    return ": ".join(filter(None, [repo.name, " | ".join(filter(None, facts))]))


def _dependencies(manager: CoordinationManager, shown: Collection[str]) -> Iterable[str]:
    for found in manager.ecosystem.coordination.dependencies:
        if {found.consumer, found.provider} & set(shown):
            version = f" {found.version_constraint}" if found.version_constraint else ""
            yield f"{found.id}: {found.consumer} needs {found.provider}{version} ({found.type}, {found.status})"


def _plan(manager: CoordinationManager, plan: Plan) -> str:
    return f"{plan.id} ({plan.status}): {plan.title}; {len(manager.plan_todos(plan.id))} todos"
