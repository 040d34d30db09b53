"""The plans and their milestones: listed, created, changed, deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich_click import command, option

from coordination.cli.completing import listed, milestone_ids, plan_ids
from coordination.cli.context import CliContext
from coordination.cli.desk.changing import creates, deletes, refuse_nothing
from coordination.cli.desk.happened import say_updated
from coordination.cli.desk.listing import print_plans
from coordination.cli.options.fields import MILESTONE, MILESTONES, PLAN
from coordination.cli.options.filling import Command, changes_of, for_create, for_update, record_of
from coordination.cli.options.filters import by_name, by_word
from coordination.cli.screen.shown import Form, as_json_option, shown
from coordination.errors import UsageError
from coordination.models import Milestone, Plan, PlanStatus, TodoStatus

if TYPE_CHECKING:
    from coordination.tracker.manager import CoordinationManager
    from coordination.tracker.records import Edited, Removed

MOVES = {"reopen": TodoStatus.PENDING, "cancel": TodoStatus.CANCELLED}


@command()
@by_word("--status", PlanStatus)
@by_name("--repo", "Only what touches this repository.")
@shown(Plan)
@click.pass_obj
def list_plans(call: CliContext, /, form: Form, **filters: Any) -> None:
    """List the plans by date. Filters add up."""
    plans = call.manager.list_plans(**filters)
    form.records(plans, lambda: print_plans(plans, {plan.id: call.manager.plan_todos(plan.id) for plan in plans}))


@creates(PLAN)
def create_plan(desk: CoordinationManager, records: Sequence[Mapping[str, Any]]) -> Sequence[Edited]:
    """Create a plan; prints its id. Its todos name it: coord create-todo --plan."""
    return desk.create_all("plan", records)


def _of_milestones(verb: str, help_: str) -> Callable[[Command], Command]:
    return option(
        f"--{verb}-milestone",
        verb,
        metavar="ID,…",
        multiple=True,
        help=help_,
        panel=MILESTONES,
        shell_complete=listed(milestone_ids),
    )


@command()
@click.argument("plan", shell_complete=plan_ids)
@for_update(PLAN)
@option(
    "--add-milestone", "added", metavar="NAME", help="One more of this name; the following say more.", panel=MILESTONES
)
@option(
    "--milestone",
    "changed",
    metavar="ID",
    help="Change this one, as the following say.",
    panel=MILESTONES,
    shell_complete=milestone_ids,
)
@for_create(MILESTONE)
@_of_milestones("complete", "Say that it is done.")
@_of_milestones("reopen", "Say that it is not done.")
@_of_milestones("cancel", "Say that it will not be done.")
@_of_milestones("delete", "Take it out; refused while others name it.")
@as_json_option
@click.pass_obj
def update_plan(call: CliContext, /, plan: str, as_json: bool, **options: Any) -> None:
    """Change fields and milestones of PLAN; an empty value clears a field (--target '')."""
    changes = changes_of(PLAN, options)
    steps: dict[str, Any] = {
        "update_milestones": _updates(options),
        "complete_milestones": _ids(options["complete"]),
        "delete_milestones": _ids(options["delete"]),
        "add_milestones": _added(options),
    }
    refuse_nothing(changes or any(steps.values()), PLAN)
    say_updated(call.manager.update_plan(plan, changes, **steps), as_json=as_json)


def _ids(given: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for text in given for name in text.split(",") if name.strip()))


def _updates(options: Mapping[str, Any]) -> Mapping[str, Callable[[Milestone], Mapping[str, Any]]]:
    """Of each milestone that is spoken of, what changes in it."""
    updates = {name: partial(_moved, status) for verb, status in MOVES.items() for name in _ids(options[verb])}
    if options["changed"] is None:
        return updates
    if options["added"] is not None:
        raise UsageError("--add-milestone and --milestone exclude each other", "change one milestone at a time")
    changes, moved = changes_of(MILESTONE, options), updates.get(options["changed"])
    refuse_nothing(changes or moved, MILESTONE)
    return {**updates, options["changed"]: lambda m: {**changes(m), **(moved(m) if moved else {})}}


def _moved(status: TodoStatus, _: Milestone) -> dict[str, Any]:
    return {"status": status}


def _added(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    if options["changed"] is not None:
        return []
    fields, name = record_of(MILESTONE, options), options["added"]
    if name is not None and "name" in fields:
        raise UsageError("--add-milestone and --name exclude each other", "the new one's name: --add-milestone NAME")
    if name is None and fields:
        spoken = ", ".join(field.option for field in MILESTONE if options.get(field.key))
        raise UsageError(f"{spoken}: of which milestone?", "a new one: --add-milestone NAME; another: --milestone ID")
    return [] if name is None else [{"name": name, **fields}]


@deletes("PLAN", plan_ids)
def delete_plan(desk: CoordinationManager, plan: str, cascade: bool) -> Removed:
    """Delete PLAN; refused while it has todos, or others name it."""
    return desk.delete_plan(plan, cascade=cascade)
