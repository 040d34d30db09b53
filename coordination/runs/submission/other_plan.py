"""Refuse a change set that another plan of the same id has made.

A change set has the id of its plan, and an id can be used again: the record is deleted or the file replaced,
and a new plan gets the id by hand. Nothing in a plan is bound to stay, so that its content decides. Each run
keeps the title of its plan, and the todos that it executes. The plan of the file is another one than that of
the change set if its title differs from that of the newest run, and if it has none of the todos whose results
are in the change set, by id, repository and task. A plan that was renamed, or whose todos were reworded, is
the same. Where no run is recorded, as after `coord plan adopt`, the person who adopted the work has decided.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

from coordination.errors import Conflict
from coordination.models import Ecosystem, Todo
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.records import TodoSpec
from coordination.runs.store import RunStore
from coordination.text import listed

TITLE = "plan_title"
"""The field of a run's meta with the title of its plan."""


def refuse_other_plan(
    store: RunStore, ecosystem: Ecosystem, change_set: ChangeSet, nevertheless: Iterable[str]
) -> None:
    """Raise Conflict where another plan of this id has made the change set. `nevertheless`: the commands that
    go on with it.
    """
    if found := work_of_another(store, ecosystem, change_set):
        raise Conflict(found, "; or ".join([f"see it: coord changes {change_set.id}", *nevertheless]))


def work_of_another(store: RunStore, ecosystem: Ecosystem, change_set: ChangeSet) -> str:
    """Return a sentence on the work that another plan of this id has made; empty if there is none."""
    name = change_set.id
    todos = ecosystem.coordination.todos
    plan = next((plan for plan in ecosystem.coordination.plans if plan.id == name), None)
    own = ecosystem.todos_of(plan) if plan else [todo for todo in todos if todo.id == name]
    before = _title(store, change_set)
    if not change_set.open or (plan and before in ("", plan.title)):
        return ""
    done = list(_todos(store, change_set))
    if not done or not own or not {_identity(todo) for todo in done}.isdisjoint(map(_identity, own)):
        return ""
    work = listed([f"{one.repo} ({listed(one.todos)})" for one in change_set.taken_over])
    return f"{name} has work of another plan of this id{f', {before!r}' if before else ''}: {work}"


def _identity(todo: Todo) -> tuple[str, str, str]:
    return todo.id, todo.repo, todo.task


def refuse_of_sweep(
    store: RunStore, ecosystem: Ecosystem, change_set: ChangeSet, accepted: Collection[str]
) -> None:
    """Raise Conflict as `refuse_other_plan` does, unless the id is among the accepted ones."""
    name = change_set.id
    if name not in accepted:
        ways = (
            f"discard it: coord sweep {name} --fresh",
            f"go on with it: coord sweep {name} --accept {name}",
        )
        refuse_other_plan(store, ecosystem, change_set, ways)


def _title(store: RunStore, change_set: ChangeSet) -> str:
    """Return the title of the plan in the newest run that has one; empty if it is unknown."""
    with store.redis.pipeline(transaction=False) as pipeline:
        for run in change_set.runs:
            pipeline.hget(store.keys.run(run).meta, TITLE)
        return next(filter(None, pipeline.execute()), "") if change_set.runs else ""


def _todos(store: RunStore, change_set: ChangeSet) -> Iterator[Todo]:
    """Yield the todos whose results have not landed, as their runs have them."""
    names = [todo for todo in change_set.todos if todo in change_set.source]
    with store.redis.pipeline(transaction=False) as pipeline:
        for todo in names:
            pipeline.hget(store.keys.run(change_set.source[todo]).spec, todo)
        answers = pipeline.execute() if names else []
    for text in filter(None, answers):
        with suppress(ValueError):  # one that is damaged proves nothing
            yield TodoSpec.model_validate_json(text).todo
