"""`validate-plan`: completeness of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.cli.completion import plan_ids
from coordination.cli.context import CliContext
from coordination.cli.screen.output import as_json_option, print_json

if TYPE_CHECKING:
    from coordination.api import MilestoneStanding, PlanCompletion
    from coordination.models import Criterion

LACKING = 3


@command()
@click.argument("plan", shell_complete=plan_ids)
@click.option("--run-checks", is_flag=True, help="Run the commands of its criteria, 60 s each at most.")
@as_json_option
@click.pass_obj
def validate_plan(call: CliContext, plan: str, run_checks: bool, as_json: bool) -> int:
    """Check whether PLAN is complete: todos, milestones, criteria, deliverables. Exit code 3: something is
    missing.
    """
    standing = call.coord.manager.validate_plan_completion(plan, run_checks=run_checks, on_check=print_check)
    if as_json:
        print_json(standing)
    else:
        click.echo("\n".join(map(_printable, _lines(standing))))
    return 0 if standing.complete else LACKING


def print_check(criterion: Criterion) -> None:
    """Say on standard error which criterion is checked now."""
    click.echo(_printable(f"· checking: {criterion.text}"), err=True)


def _printable(line: str) -> str:
    """Remove control characters: output of a check must not draw on the terminal."""
    from coordination.cli.screen.tables import plain

    said = line.lstrip(" ")
    return " " * (len(line) - len(said)) + plain(said)


def _lines(standing: PlanCompletion) -> Iterator[str]:
    yield f"{standing.plan_id}  {standing.title}"
    for milestone in standing.milestones:
        yield from _milestone(milestone)
    for one in standing.checks:
        words = one.verdict or one.why
        yield f"  {MARKS[one.accepted]} check {one.check} of {one.repo}: {words}"
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
        yield f"  {MARKS[criterion.met]} {criterion.text}"
    for deliverable in standing.deliverables:
        yield f"  {MARKS[deliverable.present]} {deliverable.text}"


MARKS = {True: "✓", False: "✗", None: "?"}
