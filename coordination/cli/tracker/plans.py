"""Changes of plans with their milestones; the completion of plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich_click import option

from coordination.api import texts
from coordination.api.fields import MILESTONES, STATE, MilestoneFields, changes_of
from coordination.cli.completion import listed, milestone_ids
from coordination.cli.context import CliContext
from coordination.cli.options.record_input import Given, options_to_create, with_options
from coordination.cli.options.values import Function
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.tracker import edits
from coordination.cli.tracker.edits import (
    change,
    changes_in,
    fields_of,
    print_updated,
    refuse_nothing,
    values_of,
)
from coordination.declared import Operation, parameters_of
from coordination.errors import ExitCode, UsageError
from coordination.models import Milestone, TodoStatus
from coordination.states import mark_of_check

if TYPE_CHECKING:
    from coordination.api import MilestoneStanding, PlanCompletion
    from coordination.models import Criterion

MILESTONE = [Given(one) for one in parameters_of(MilestoneFields, "milestone")]
STATUS_BY_VERB = {"reopen": TodoStatus.PENDING, "cancel": TodoStatus.CANCELLED}
"""Marks of conditions that hold, do not hold, and are not known."""


def _of_milestones(verb: str, help_: str) -> Callable[[Function], Function]:
    return option(
        f"--{verb}-milestone",
        verb,
        metavar="ID,…",
        multiple=True,
        help=help_,
        panel=MILESTONES,
        shell_complete=listed(milestone_ids),
    )


@option(
    "--add-milestone",
    "added",
    metavar="NAME",
    help="Add a milestone with this name; the options below set its fields.",
    panel=MILESTONES,
)
@option(
    "--milestone",
    "changed",
    metavar="ID",
    help="Change this milestone; the options below set its fields.",
    panel=MILESTONES,
    shell_complete=milestone_ids,
)
@with_options(options_to_create(MILESTONE))
@_of_milestones("complete", "Complete a milestone.")
@_of_milestones("reopen", "Reopen a milestone.")
@_of_milestones("cancel", "Cancel a milestone.")
@_of_milestones("delete", "Delete a milestone; refused while others name it.")
@option("--force", is_flag=True, help=texts.FORCE, panel=STATE)
@option("--reason", metavar="TEXT", default="", help=texts.FORCE_REASON, panel=STATE)
def update_plan(
    call: CliContext,
    declared: Operation,
    plan: str,
    changes: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """An empty value clears a field (--target ''). `coord plan validate` names what a plan or milestone
    lacks; exit code 3: it is not complete.
    """
    steps: dict[str, Any] = {
        "update_milestones": _updates(options),
        "complete_milestones": _ids(options["complete"]),
        "delete_milestones": _ids(options["delete"]),
        "add_milestones": _added(options),
    }
    refuse_nothing(changes or any(steps.values()), fields_of(declared))
    forced: dict[str, Any] = {"force": options["force"], "reason": options["reason"], "on_check": print_check}
    print_updated(change(call, declared, plan, changes, **steps, **forced), as_json=as_json)


def update(declared: Operation) -> click.Command:
    """Return the command that changes a plan and its milestones."""
    return edits.update(declared, update_plan)


def _ids(texts: Iterable[str]) -> list[str]:
    """Return the ids in texts with commas, each once."""
    return list(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))


def _updates(options: Mapping[str, Any]) -> Mapping[str, Callable[[Milestone], Mapping[str, Any]]]:
    """Return milestone → the function that changes it."""
    updates = {
        name: partial(_with_status, status)
        for verb, status in STATUS_BY_VERB.items()
        for name in _ids(options[verb])
    }
    if options["changed"] is None:
        return updates
    if options["added"] is not None:
        raise UsageError(
            "--add-milestone and --milestone exclude each other", "change one milestone at a time"
        )
    given, of_status = changes_in(MILESTONE, options), updates.get(options["changed"])
    refuse_nothing(given or of_status, MILESTONE)
    fields = MilestoneFields(**given.get("values", {}))
    changes = changes_of(fields, given.get("clear", ()))
    return {**updates, options["changed"]: lambda m: {**changes(m), **(of_status(m) if of_status else {})}}


def _with_status(status: TodoStatus, _: Milestone) -> dict[str, Any]:
    return {"status": status}


def _added(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    if options["changed"] is not None:
        return []
    fields, name = MilestoneFields(**values_of(MILESTONE, options)).given(), options["added"]
    if name is not None and "name" in fields:
        raise UsageError(
            "--add-milestone and --name exclude each other", "name the new milestone: --add-milestone NAME"
        )
    if name is None and fields:
        used = ", ".join(field.flag for field in MILESTONE if options.get(field.name))
        raise UsageError(
            f"{used}: no milestone is named", "name a new one: --add-milestone NAME; another: --milestone ID"
        )
    return [] if name is None else [{"name": name, **fields}]


@as_json_option
def validate(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> int:
    """Exit code 3: something is missing."""
    standing = call.coord.plan.validate(**values, on_check=print_check)
    if as_json:
        print_json(standing)
    else:
        click.echo("\n".join(map(_printable, _lines(standing))))
    return ExitCode.SUCCESS if standing.complete else ExitCode.FAILED


def print_check(criterion: Criterion) -> None:
    """Print the criterion that is checked now to standard error."""
    click.echo(_printable(f"· checking: {criterion.text}"), err=True)


def _printable(line: str) -> str:
    """Remove control characters: output of a check must not draw on the terminal."""
    from coordination.cli.screen.tables import plain

    text = line.lstrip(" ")
    return " " * (len(line) - len(text)) + plain(text)


def _lines(standing: PlanCompletion) -> Iterator[str]:
    yield f"{standing.plan_id}  {standing.title}"
    for milestone in standing.milestones:
        yield from _milestone(milestone)
    for check in standing.checks:
        mark, _ = mark_of_check(check.accepted)
        yield f"  {mark} check {check.check} of {check.repo}: {check.verdict or check.why}"
    if standing.complete:
        yield f"{standing.plan_id} is {standing.status}, and nothing is missing"
    else:
        yield "missing:"
        yield from (f"- {text}" for text in standing.missing)
    if standing.unchecked:
        yield "not checked:"
        yield from (f"- {text}" for text in standing.unchecked)


def _milestone(standing: MilestoneStanding) -> Iterator[str]:
    due = f", due {standing.due}{' (overdue)' if standing.overdue else ''}" if standing.due else ""
    yield f"{standing.id}  {standing.name}: {standing.status}{due}"
    for criterion in standing.criteria:
        yield f"  {mark_of_check(criterion.met)[0]} {criterion.text}"
    for deliverable in standing.deliverables:
        yield f"  {mark_of_check(deliverable.present)[0]} {deliverable.text}"
