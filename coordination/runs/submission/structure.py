"""The graph of a run: its todos, where each is done and what it waits for. It is fixed at submission, by a hash in `meta`.

What a todo does may be mended between a run and its retry; the order of the work may not change beneath it: what was done was
done in that order. So a run goes on only where the file still has its graph, or by the run's own, said so (`--as-it-was`).
Nothing that happens to the plan otherwise is a difference: a status, an action, a todo that is new and touches none of the run's.

The hash is the SHA-256 of the todos in alphabetical order, each as [id, repository, [direct predecessors in the run]], as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from coordination.errors import Conflict, PlanRefused
from coordination.models import Ecosystem, ManualAction, NoopAction, Todo, TodoStatus, Workspace
from coordination.planner.blockers import Register
from coordination.planner.gates import MILESTONE_REPO, gates_of
from coordination.runs.records import Descriptor, RunBrief

SHOWN = 3
"""So many differences are named."""


def graph_hash(repo_of: Mapping[str, str], predecessors: Mapping[str, Iterable[str]]) -> str:
    rows = [[todo, repo_of[todo], sorted(predecessors[todo])] for todo in sorted(predecessors)]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def refuse_damaged(
    run_id: str, meta: Mapping[str, str], place: Mapping[str, str], children: Mapping[str, str], todos: Collection[str]
) -> None:
    """Raises Conflict where what the steps go by, or the brief of the workers, is not the graph of the run's hash.

    `todos`: those that may be carried out. A run of before there was a hash is taken as it is.
    """
    if "graph" in meta and meta["graph"] not in _hashes(meta, place, children, todos):
        raise Conflict(
            f"the records of run {run_id} are damaged: its todos and their order are not those of its graph's hash",
            f"begin anew: coord sweep {meta.get('plan_id', 'PLAN')}",
        )


def _hashes(
    meta: Mapping[str, str], place: Mapping[str, str], children: Mapping[str, str], todos: Collection[str]
) -> set[str]:
    """One, if the records agree with each other; none if they do not, or cannot be read."""
    before: defaultdict[str, list[str]] = defaultdict(list)
    for todo, after in children.items():
        for child in after.split():
            before[child].append(todo)
    try:
        brief = RunBrief.model_validate_json(meta["brief"])
        repo_of = {todo: Descriptor.parse(place[todo]).repo for todo in todos}
        if not before.keys() <= repo_of.keys():
            return set()
        found = {
            graph_hash(repo_of, {todo: before[todo] for todo in todos}),
            graph_hash(brief.repo_of, brief.predecessors),
        }
    except (ValueError, LookupError):
        return set()
    return found if len(found) == 1 else set()


def refuse_changed(brief: RunBrief, ecosystem: Ecosystem, left: Collection[str], command: str) -> None:
    """Raises PlanRefused where the file now has another graph for the run's todos. `left`: those that are still to be done."""
    found = list(differences(brief, ecosystem, left))
    if not found:
        return
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise PlanRefused(
        f"{brief.plan_id} is no longer the plan of run {brief.run_id}: {'; '.join(found[:SHOWN])}{more}",
        f"sweep it anew: coord sweep {brief.plan_id}; or carry on in the run's own order: coord {command} --as-it-was",
    )


def differences(brief: RunBrief, ecosystem: Ecosystem, left: Collection[str]) -> Iterator[str]:
    """In words, one for each todo and edge of the run that the file now says otherwise."""
    plan = next((plan for plan in ecosystem.coordination.plans if plan.id == brief.plan_id), None)
    # As at the sweep, when all of the run's todos were open: what a plan owns may depend on that.
    todos = tuple(_open(todo) if todo.id in brief.predecessors else todo for todo in ecosystem.coordination.todos)
    register = Register(ecosystem.with_coordination(todos=todos), plan, gates_of(plan) if plan else {})
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
        yield from _edges(register, brief, name, before, is_left=name in left)


def _edges(register: Register, brief: RunBrief, name: str, before: Collection[str], *, is_left: bool) -> Iterator[str]:
    waits = register.waits_for(name)
    ours = [other for other in waits if other in brief.predecessors]
    yield from (f"{name} now waits for {other}" for other in ours if other not in before)
    yield from (f"{name} no longer waits for {other}" for other in before if other not in waits)
    if is_left:
        strangers = [other for other in waits if other not in brief.predecessors and register.is_open(other)]
        yield from (f"{name} now waits for {other}, which the run does not have" for other in strangers)


def _open(todo: Todo) -> Todo:
    return todo.model_copy(update={"status": TodoStatus.PENDING})


def without_way_back(todo: Todo, *, in_git: bool = True) -> str:
    """Why nothing undoes the todo; empty where something does: its `compensate`, or that its run's branch goes. Of a milestone's
    approval, and of what a person does, nothing is coord's to undo.
    """
    if todo.compensate is not None or todo.repo == MILESTONE_REPO or isinstance(todo.action, NoopAction | ManualAction):
        return ""
    if todo.workspace is Workspace.IN_PLACE:
        return "it works in place"
    return "" if in_git else "it worked in a folder that is no git repository"
