"""Resources: the file without its secrets, a run, a log. Prompt: how to plan a change across repositories."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import yaml
from fastmcp import FastMCP
from fastmcp.exceptions import PromptError, ResourceError
from fastmcp.prompts import Prompt, PromptArgument
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coordination.api import OPEN, CoordinationManager, hide_password
from coordination.mcp.errors import refusals
from coordination.mcp.session import Session
from coordination.models import HIDDEN, SECRET, Plan, Repo
from coordination.settings import Settings

ARGUMENTS = [  # FastMCP's own explain to people how JSON is written
    PromptArgument(name="change", description="The change, in your words.", required=True),
    PromptArgument(name="repos", description="Only these repositories, with commas; none: all of them."),
]
WAY = """\
How to go about it:
1. Find out which of these repositories the change touches, and read their code where you can.
2. Look at the work in progress: coord_list_plans, coord_list_todos(repo=…), coord_get_blocking_issues(repo=…). Do not plan it twice.
3. If the change is not recorded yet, create an issue for it: coord_create_issue, with the repositories it touches.
4. Cut the work into todos, each in one repository, each of a size that one person or agent does in one go, with criteria by
   which it counts as done. Providers come before their consumers: see the dependencies above. If a plan should hold them
   together that does not exist yet, ask for it to be created: coord create-plan --title … --repos …
5. coord_create_todo for each, in that order: `plan`, `repo`, `task`, `estimated_hours`, `acceptance_criteria`, `blocked_by` (the
   ids of the todos that come before it), `run` where a command does the work. Without a command, the configured agent does it.
6. coord_forecast_plan shows the order and how long it takes. Show it to the person who asked; run it only when they agree:
   coord_sweep_plan, then coord_get_run.
"""


def add_prompts(server: FastMCP, session: Session) -> None:
    def plan_change(change: str, repos: str = "") -> str:
        """Plan a change across repositories: todos in order, from what is declared."""
        with refusals(PromptError):
            return _brief(
                session.coord.manager, change, [name.strip() for name in repos.split(",") if name.strip()]
            )

    prompt = Prompt.from_function(plan_change, title="Plan this change across my repositories")
    server.add_prompt(prompt.model_copy(update={"arguments": ARGUMENTS}))


def _brief(manager: CoordinationManager, change: str, names: Collection[str]) -> str:
    repos = [manager.get_repo(name) for name in names] if names else manager.ecosystem.repos
    shown = {repo.name for repo in repos}
    parts = (
        f"Plan this change across my repositories:\n\n{change}\n",
        _section("Repositories", (_repo(repo) for repo in repos)),
        _section("Dependencies (consumer needs provider)", _dependencies(manager, shown)),
        _section(
            "Open plans", (_plan(manager, plan) for plan in manager.list_plans() if plan.status in OPEN)
        ),
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


def add_resources(server: FastMCP, session: Session) -> None:
    @server.resource("coord://ecosystem", title="The ecosystem file", mime_type="application/yaml")
    def ecosystem() -> str:
        """ecosystem.yaml as it stands, but for passwords and tokens: repositories, issues, plans, todos,
        dependencies.
        """
        with refusals(ResourceError):
            return presentable_text(session.coord.manager.document.text.decode())

    @server.resource("coord://runs/{run_id}", title="A run", mime_type="application/json")
    def run(run_id: str) -> str:
        """A run with all its todos, as JSON; `last` is the newest one."""
        with refusals(ResourceError):
            return session.view(session.coord.runs.get(run_id)).model_dump_json(indent=2)

    @server.resource(
        "coord://runs/{run_id}/todos/{todo_id}/log", title="A todo's log", mime_type="text/plain"
    )
    def log(run_id: str, todo_id: str) -> str:
        """What a todo wrote in a run, over all its attempts."""
        with refusals(ResourceError):
            return "".join(session.coord.runs.get(run_id).log(todo_id))


_HIDDEN = f'"{HIDDEN}"'
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def presentable_text(text: str) -> str:
    """Return the text of the file with secrets hidden: values of `env` with a secret's name, secret
    settings, the password of `redis_url`. Raises YAMLError.
    """
    root = yaml.compose(text, Loader=LOADER)
    # An alias has one place.
    places = {(node.start_mark.index, node.end_mark.index): words for node, words in _secrets(root)}
    shown, at = [], 0
    for (start, end), words in sorted(places.items()):
        shown += [text[at:start], words]
        at = start + len(text[start:end].rstrip())  # a block ends behind its last line end
    return "".join([*shown, text[at:]])


def _secrets(root: Node | None) -> Iterator[tuple[Node, str]]:
    settings = _under(root, "settings")
    for name, value in _pairs(settings):
        if name == "redis_url" and isinstance(value, ScalarNode):
            if (hidden := hide_password(value.value)) != value.value:
                yield value, hidden
        elif name in Settings.model_fields and not Settings.model_fields[name].repr:
            yield value, _HIDDEN
    todos = _under(_under(root, "coordination"), "todos")
    for todo in todos.value if isinstance(todos, SequenceNode) else ():
        for name, value in _pairs(_under(todo, "env")):
            if SECRET.search(name):
                yield value, _HIDDEN


def _under(node: Node | None, name: str) -> Node | None:
    return next((value for found, value in _pairs(node) if found == name), None)


def _pairs(node: Node | None) -> Iterator[tuple[str, Node]]:
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if key.value == "<<":  # what is merged in
            for merged in value.value if isinstance(value, SequenceNode) else (value,):
                yield from _pairs(merged)
        yield str(key.value), value
