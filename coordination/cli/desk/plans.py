"""The plans and their milestones: listed, created, changed, deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich_click import command, option

from coordination.cli.completing import listed, milestone_ids, plan_ids
from coordination.cli.context import Call
from coordination.cli.desk.changing import creates, deletes, refuse_nothing
from coordination.cli.desk.happened import say_updated
from coordination.cli.desk.listing import print_plans
from coordination.cli.options.fields import MILESTONE, MILESTONES, PLAN
from coordination.cli.options.filling import changes_of, for_create, for_update, record_of
from coordination.cli.options.filters import by_name, by_word
from coordination.cli.screen.shown import Form, as_json_option, shown
from coordination.errors import UsageError
from coordination.models import Plan, PlanStatus

if TYPE_CHECKING:
    from coordination.desk.manager import CoordinationManager
    from coordination.desk.records import Edited, Removed


@command()
@by_word("--status", PlanStatus)
@by_name("--repo", "Only what touches this repository.")
@shown(Plan)
@click.pass_obj
def list_plans(call: Call, /, form: Form, **filters: Any) -> None:
    """List the plans by date. Filters add up."""
    plans = call.manager.list_plans(**filters)
    form.records(plans, lambda: print_plans(plans, {plan.id: call.manager.plan_todos(plan.id) for plan in plans}))


@creates(PLAN)
def create_plan(desk: CoordinationManager, records: Sequence[Mapping[str, Any]]) -> Sequence[Edited]:
    """Create a plan; prints its id. Its todos name it: coord create-todo --plan."""
    return desk.create_all("plan", records)


@command()
@click.argument("plan", shell_complete=plan_ids)
@for_update(PLAN)
@option("--add-milestone", "milestone", metavar="NAME", help="One more milestone of this name.", panel=MILESTONES)
@for_create(MILESTONE)
@option(
    "--complete-milestone",
    "completed",
    metavar="ID,…",
    multiple=True,
    help="Say that it is done.",
    panel=MILESTONES,
    shell_complete=listed(milestone_ids),
)
@as_json_option
@click.pass_obj
def update_plan(
    call: Call, /, plan: str, milestone: str | None, completed: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Change fields and milestones of PLAN; an empty value clears a field (--target '')."""
    changes = changes_of(PLAN, options)
    added = _milestone(milestone, record_of(MILESTONE, options))
    done = [name for text in completed for name in text.split(",")]
    refuse_nothing(changes or added or done, PLAN)
    edited = call.manager.update_plan(plan, changes, complete_milestones=done, add_milestones=added)
    say_updated(edited, as_json=as_json)


def _milestone(name: str | None, fields: dict[str, Any]) -> list[dict[str, Any]]:
    if name is None and fields:
        raise UsageError("--due and --criterion belong to a new milestone", "say its name: --add-milestone NAME")
    return [] if name is None else [{"name": name, **fields}]


@deletes("PLAN", plan_ids)
def delete_plan(desk: CoordinationManager, plan: str, cascade: bool) -> Removed:
    """Delete PLAN; refused while it has todos, or others name it."""
    return desk.delete_plan(plan, cascade=cascade)
