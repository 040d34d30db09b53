"""The preview of a sweep: its todos with their order, hosts and commands, and the reasons why other todos of
the plan would not run. Pure.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from coordination.models import (
    AgentAction,
    Check,
    Command,
    Ecosystem,
    LandAction,
    ManualAction,
    NoopAction,
    OnFailure,
    PythonAction,
    QaAction,
    Repo,
    ResourceNeed,
    RevertAction,
    RewriteAction,
    ServiceAction,
    ShellAction,
    Strategy,
    Todo,
    Workspace,
)
from coordination.planner.gates import effect_of_timeout, is_milestone, needs_approval
from coordination.planner.graph import PlanGraph
from coordination.rewrites import Matches
from coordination.runs.change_sets.records import TakenOver
from coordination.runs.submission.order import Order
from coordination.runs.worker_registry import Worker, waiting_for_worker
from coordination.sandbox import decide
from coordination.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Workplace:
    host: str
    path: str


NO_MATCHES: Mapping[str, Matches] = MappingProxyType({})
Places = Mapping[str, tuple[Workplace, ...] | str]
"""Repository → the places where it would be worked on, or the reason why there is none."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One todo that would run."""

    id: str
    repo: str
    level: int
    """Level by the plan's dependencies, from 0."""
    after: tuple[str, ...]
    places: tuple[Workplace, ...]
    waits_for: str | None
    """The reason why the todo would wait although its predecessors are done."""
    approval: str | None
    """The approval at its gate, which is asked for before anything else."""
    workspace: Workspace
    resources: tuple[ResourceNeed, ...]
    secrets: tuple[str, ...]
    """Names of the credentials that it gets."""
    sandbox: str
    """Sandbox of its command as text, by the file and these settings; empty without one. Workers and roles
    may demand one in any case.
    """
    command: str
    timeout_s: float | None
    """Timeout; None: it waits for a person without limit."""
    undo: str | None
    """The command that would undo it, where a failure rolls the run back."""
    matches: Matches | None = None
    """The changes that a rewrite would make in the base branch; None for other todos."""


@dataclass(frozen=True, kw_only=True)
class Rest:
    """One todo of the plan that would not run."""

    id: str
    repo: str
    why: str


@dataclass(frozen=True, kw_only=True)
class DryRun:
    plan_id: str
    strategy: Strategy
    reason: str
    on_failure: str
    max_parallel: int | None
    nothing_to_do: str
    size: str
    """Number of todos and hours, as text."""
    steps: tuple[Step, ...]
    """The todos in the order in which they would start, according to the estimates."""
    rest: tuple[Rest, ...]
    takes_over: tuple[TakenOver, ...] = ()
    """The unlanded commits of the change set with which the run would begin."""


def dry_run(
    graph: PlanGraph,
    order: Order,
    ecosystem: Ecosystem,
    settings: Settings,
    places: Places,
    matches: Mapping[str, Matches] = NO_MATCHES,
) -> DryRun:
    """Return the preview of a sweep. `matches`: todo → what its rewrite would change."""
    repos = {repo.name: repo for repo in ecosystem.repos}
    return DryRun(
        plan_id=graph.plan.id,
        strategy=order.strategy,
        reason=order.reason,
        on_failure=order.on_failure,
        max_parallel=order.max_parallel,
        nothing_to_do=graph.nothing_to_do,
        size=graph.size,
        steps=tuple(
            replace(_step(graph, name, settings, places, order.on_failure, repos), matches=matches.get(name))
            for name in _in_order(graph, order)
        ),
        rest=tuple(_rest(graph, ecosystem)),
    )


def places_of(repos: Iterable[str], workers: Iterable[Worker]) -> Places:
    """Return where living workers serve these repositories."""
    alive = tuple(workers)
    found: dict[str, tuple[Workplace, ...] | str] = {}
    for repo in repos:
        serving = {Workplace(host=w.host, path=w.places.get(repo, "")): None for w in alive if repo in w.fit}
        found[repo] = tuple(serving) or waiting_for_worker(repo, alive)
    return found


def command_text(todo: Todo, settings: Settings | None = None) -> str:
    """Return the command of a todo on one line, for people."""
    action = todo.action
    if isinstance(action, ShellAction):
        return _words(action.run)
    if isinstance(action, PythonAction):
        return (
            f"python: {action.call} {json.dumps(action.args, default=str)}"
            if action.args
            else f"python: {action.call}"
        )
    if isinstance(action, ManualAction):
        return f"a person: coord {'approve' if is_milestone(todo) else 'todo complete'} {todo.id}"
    if isinstance(action, NoopAction):
        return "nothing"
    if isinstance(action, QaAction):
        return f"check: {_words(action.run or '')}"
    if isinstance(action, RewriteAction):
        return f"rewrite {action.lang}: {action.pattern} → {action.rewrite}"
    if isinstance(action, ServiceAction):
        return f"{action.step} service {action.name}"
    if isinstance(action, LandAction | RevertAction):
        return f"{action.type} {action.change_set} by {action.via}"
    return _agent_text(action or AgentAction(type="agent"), settings or Settings())


def _agent_text(action: AgentAction, settings: Settings) -> str:
    names = action.agent or tuple(filter(None, (settings.default_agent,)))
    known = (settings.presets.get(name) for name in names)
    commands = (_words(agent.command) if agent and agent.command else "" for agent in known)
    told = (command or name for name, command in zip(names, commands, strict=True))
    checks = ", ".join(_words(check.run) for check in action.verify or () if isinstance(check, Check))
    return f"agent: {', then '.join(told)}" + (f"; verified by {checks}" if checks else "")


def sandbox_text(todo: Todo, repo: Repo, settings: Settings) -> str:
    """Return the sandbox of a todo by the file and the settings: `bubblewrap, network`; empty without one."""
    decision = decide(todo, repo, todo.action, settings)
    if decision.bounds is None:
        return ""
    network = ", network" if decision.bounds.network else ""
    return f"bubblewrap{network}{'' if decision.required else ', where it works'}"


def undo_text(todo: Todo, settings: Settings | None = None) -> str:
    """Return the command that undoes a todo on one line, for people; empty where nothing is needed."""
    if todo.compensate is not None:
        return command_text(todo.model_copy(update={"action": todo.compensate}), settings)
    return "" if isinstance(todo.action, ManualAction | NoopAction) else "the run's branch and worktree go"


def approval_of(todo: Todo) -> str | None:
    """Return the approval that a todo needs, as `an approval: coord approve TODO-004 (rejected after 24 h)`;
    None without a gate, or for a manual todo.
    """
    if todo.gate is None or not needs_approval(todo):
        return None
    effect = effect_of_timeout(todo.gate)
    return f"an approval: coord approve {todo.id}" + (f" ({effect})" if effect else "")


def _words(command: Command) -> str:
    return command if isinstance(command, str) else shlex.join(command)


def _in_order(graph: PlanGraph, order: Order) -> Iterable[str]:
    if order.strategy is Strategy.LEVELS:
        return [name for level in graph.levels for name in level]
    return sorted(graph.todos, key=lambda name: (order.starts[name], graph.order[name]))


def _step(
    graph: PlanGraph,
    name: str,
    settings: Settings,
    places: Places,
    on_failure: OnFailure,
    repos: Mapping[str, Repo],
) -> Step:
    todo = graph.todos[name]
    repo = repos.get(todo.repo, Repo(name=todo.repo))
    manual = isinstance(todo.action, ManualAction)
    where: tuple[Workplace, ...] | str = () if manual else places[todo.repo]
    return Step(
        id=name,
        repo=todo.repo,
        level=graph.depth[name],
        after=graph.predecessors[name],
        places=() if isinstance(where, str) else where,
        waits_for=where if isinstance(where, str) else None,
        approval=approval_of(todo),
        workspace=todo.workspace,
        resources=todo.resources,
        secrets=todo.secrets,
        sandbox="" if manual or isinstance(todo.action, NoopAction) else sandbox_text(todo, repo, settings),
        command=command_text(todo, settings),
        timeout_s=None if manual else (todo.timeout or settings.todo_timeout).total_seconds(),
        undo=undo_text(todo, settings) if on_failure is OnFailure.ROLLBACK else None,
    )


def _rest(graph: PlanGraph, ecosystem: Ecosystem) -> Iterable[Rest]:
    milestones = (todo for todo in graph.blocked_todos.values() if is_milestone(todo))
    for todo in (*ecosystem.todos_of(graph.plan), *milestones):
        if todo.id not in graph.todos:
            yield Rest(id=todo.id, repo=todo.repo, why=_why_not(graph, todo))


def _why_not(graph: PlanGraph, todo: Todo) -> str:
    if todo.id in graph.blocked:
        return f"blocked by {graph.blocked[todo.id]}"
    return "not asked for" if todo.id in graph.left_out else f"{todo.status}"
