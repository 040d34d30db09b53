"""The graph of a run: fixed at submission by a hash in `meta`, compared with the file for a retry.

A todo's action may be corrected between a run and its retry; the order may not change, because the finished
work was done in that order. So a retry is refused where the file has another graph, unless the caller asks
for that of the run (`--as-it-was`). Other changes of the plan do not count: a status, an action, a new todo
on which no todo of the run depends.

The hash is the SHA-256 of the todos in alphabetical order, each as [id, repository, [direct predecessors in
the run]], as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from coordination.errors import Conflict, PlanRefused
from coordination.models import Ecosystem, Plan, Todo, TodoStatus
from coordination.planner.blockers import Register
from coordination.planner.checks import checks_of_plan
from coordination.planner.gates import MILESTONE_REPO, gates_of
from coordination.runs.records import Descriptor, RunBrief

SHOWN = 3
"""Greatest number of differences that a message names."""


def graph_hash(repo_of: Mapping[str, str], predecessors: Mapping[str, Iterable[str]]) -> str:
    """Return the hash of a graph: its todos, the repository of each, its predecessors."""
    rows = [[todo, repo_of[todo], sorted(predecessors[todo])] for todo in sorted(predecessors)]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def refuse_damaged(
    run_id: str,
    meta: Mapping[str, str],
    descriptors: Mapping[str, str],
    children: Mapping[str, str],
    todos: Collection[str],
) -> None:
    """Raise Conflict where the records of the steps, or the brief of the workers, do not match the hash of
    the run's graph.

    `todos`: those that may be executed. A run without a hash (written by an older version) is accepted.
    """
    if "graph" in meta and meta["graph"] not in _hashes(meta, descriptors, children, todos):
        raise Conflict(
            f"the records of run {run_id} are damaged: its todos and their order do not match the hash "
            "of its graph",
            f"start a new run: coord sweep {meta.get('plan_id', 'PLAN')}",
        )


def _hashes(
    meta: Mapping[str, str],
    descriptors: Mapping[str, str],
    children: Mapping[str, str],
    todos: Collection[str],
) -> set[str]:
    """Return the hash of the records as a set of one; an empty set if they contradict each other, or cannot
    be read.
    """
    before: defaultdict[str, list[str]] = defaultdict(list)
    for todo, after in children.items():
        for child in after.split():
            before[child].append(todo)
    try:
        brief = RunBrief.model_validate_json(meta["brief"])
        repo_of = {todo: Descriptor.parse(descriptors[todo]).repo for todo in todos}
        if not before.keys() <= repo_of.keys():
            return set()
        found = {
            graph_hash(repo_of, {todo: before[todo] for todo in todos}),
            graph_hash(brief.repo_of, brief.predecessors),
        }
    except (ValueError, LookupError):
        return set()
    return found if len(found) == 1 else set()


def refuse_changed(brief: RunBrief, ecosystem: Ecosystem, open_todos: Collection[str], command: str) -> None:
    """Raise PlanRefused where the file has another graph for the run's todos. `open_todos`: the todos that
    are still to be executed.
    """
    found = list(differences(brief, ecosystem, open_todos))
    if not found:
        return
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise PlanRefused(
        f"{brief.plan_id} is no longer the plan of run {brief.run_id}: {'; '.join(found[:SHOWN])}{more}",
        f"start a new run: coord sweep {brief.plan_id}; or keep the order of the run: "
        f"coord {command} --as-it-was",
    )


def differences(brief: RunBrief, ecosystem: Ecosystem, open_todos: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each todo and edge of the run that differs in the file."""
    plan = next((plan for plan in ecosystem.coordination.plans if plan.id == brief.plan_id), None)
    ecosystem = _as_submitted(ecosystem, brief.predecessors)
    generated = generated_todos(ecosystem, plan, brief.predecessors) if plan else {}
    register = Register(ecosystem, plan, generated)
    for name, before in brief.predecessors.items():
        now = register.items.get(name)
        if not isinstance(now, Todo):
            yield (
                f"{name} is no longer declared"
                if brief.repo_of[name] != MILESTONE_REPO
                else f"{name} has no gate any more"
            )
            continue
        if now.repo != brief.repo_of[name]:
            yield f"{name} is in repository {now.repo}, and was in {brief.repo_of[name]}"
        if name not in generated or now.repo == MILESTONE_REPO:  # checks follow from the other todos
            yield from _edges(register, brief, name, before, is_left=name in open_todos)


def generated_todos(ecosystem: Ecosystem, plan: Plan, names: Collection[str]) -> dict[str, Todo]:
    """Return the todos of the plan's graph that the file does not declare: its gates, and the checks among
    `names`. A run lacks checks of repositories in which an earlier sweep had completed todos.
    """
    ecosystem = _as_submitted(ecosystem, names)
    todos = {todo.id: todo for todo in ecosystem.coordination.todos if todo.id in names}
    checks = checks_of_plan(ecosystem, plan, todos)
    return {**gates_of(plan), **{name: todo for name, todo in checks.items() if name in names}}


def _edges(
    register: Register, brief: RunBrief, name: str, before: Collection[str], *, is_left: bool
) -> Iterator[str]:
    waits = register.waits_for(name)
    ours = [other for other in waits if other in brief.predecessors]
    yield from (f"{name} now waits for {other}" for other in ours if other not in before)
    yield from (f"{name} no longer waits for {other}" for other in before if other not in waits)
    if is_left:
        strangers = [other for other in waits if other not in brief.predecessors and register.is_open(other)]
        yield from (f"{name} now waits for {other}, which the run does not have" for other in strangers)


def _as_submitted(ecosystem: Ecosystem, names: Collection[str]) -> Ecosystem:
    """Return the records with these todos open, as at the submission of their run: the dependencies of a
    plan's todos, and its checks, depend on that.
    """
    todos = (
        todo.model_copy(update={"status": TodoStatus.PENDING}) if todo.id in names else todo
        for todo in ecosystem.coordination.todos
    )
    return ecosystem.with_coordination(todos=tuple(todos))
