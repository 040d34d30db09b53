"""Commands on issues, todos, plans, milestones and repositories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich_click import option

from coordination.api import TodoInView, as_view, texts
from coordination.cli.command import command
from coordination.cli.completion import issue_ids, listed, milestone_ids, plan_ids, todo_ids
from coordination.cli.context import CliContext
from coordination.cli.options.fields import ISSUE, MILESTONE, MILESTONES, PLAN, STATE, TODO
from coordination.cli.options.record_input import (
    Command,
    changes_of,
    for_create,
    for_update,
    record_of,
)
from coordination.cli.options.values import by_name, by_word, parse_hours
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.tracker.edit_commands import creates, deletes, print_updated, refuse_nothing, updates
from coordination.cli.tracker.lists import print_issues, print_plans, print_repos, print_todos
from coordination.errors import UsageError
from coordination.models import Issue, IssueStatus, Level, Milestone, Plan, PlanStatus, Repo, TodoStatus

if TYPE_CHECKING:
    from coordination.api import MilestoneStanding, PlanCompletion
    from coordination.models import Criterion


@command("manager.list_issues")
@by_word("--status", IssueStatus)
@by_word("--priority", Level)
@by_name("--repo", "Select records of this repository.")
@by_name("--assignee", "Select records of this assignee.")
@by_name("--label", "Select records with this label.")
@output_options(Issue)
@click.pass_obj
def list_issues(call: CliContext, /, form: Form, **filters: Any) -> None:
    issues = call.coord.manager.list_issues(**filters)
    form.records(issues, lambda: print_issues(issues))


create_issue = creates("issue", ISSUE)
update_issue = updates("issue", "ISSUE", ISSUE, issue_ids)
delete_issue = deletes("issue", "ISSUE", issue_ids, lambda manager, name: manager.get_issue(name))


@command("manager.close_issue")
@click.argument("issue", shell_complete=issue_ids)
@as_json_option
@click.pass_obj
def close_issue(call: CliContext, issue: str, as_json: bool) -> None:
    print_updated(call.coord.manager.close_issue(issue), what=f"closed {issue}", as_json=as_json)


@command("manager.list_todos")
@by_word("--status", TodoStatus)
@by_word("--priority", Level)
@by_name("--repo", "Select todos of this repository.")
@by_name("--plan", "Select todos of this plan.")
@by_name("--assignee", "Select records of this assignee.")
@by_name("--label", "Select records with this label.")
@output_options(TodoInView)
@click.pass_obj
def list_todos(call: CliContext, /, form: Form, **filters: Any) -> None:
    todos = [as_view(todo) for todo in call.coord.manager.list_todos(**filters)]
    if not filters["status"] or not {TodoStatus.PENDING, TodoStatus.IN_PROGRESS}.isdisjoint(
        filters["status"]
    ):
        call.note_unknown_runs()
    form.records(todos, lambda: print_todos(todos))


create_todo = creates("todo", TODO)
update_todo = updates("todo", "TODO", TODO, todo_ids)
delete_todo = deletes("todo", "TODO", todo_ids, lambda manager, name: manager.get_todo(name))

STATUS_BY_VERB = {"reopen": TodoStatus.PENDING, "cancel": TodoStatus.CANCELLED}
INCOMPLETE = 3
"""Exit code of a plan that is not complete."""
MARKS = {True: "✓", False: "✗", None: "?"}
"""Marks of conditions that hold, do not hold, and are not known."""


@command("manager.list_plans")
@by_word("--status", PlanStatus)
@by_name("--repo", "Select records of this repository.")
@output_options(Plan)
@click.pass_obj
def list_plans(call: CliContext, /, form: Form, **filters: Any) -> None:
    plans = call.coord.manager.list_plans(**filters)
    form.records(
        plans, lambda: print_plans(plans, {plan.id: call.coord.manager.plan_todos(plan.id) for plan in plans})
    )


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


@command("manager.update_plan")
@click.argument("plan", shell_complete=plan_ids)
@for_update(PLAN)
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
@for_create(MILESTONE)
@_of_milestones("complete", "Complete a milestone.")
@_of_milestones("reopen", "Reopen a milestone.")
@_of_milestones("cancel", "Cancel a milestone.")
@_of_milestones("delete", "Delete a milestone; refused while others name it.")
@option("--force", is_flag=True, help=texts.FORCE, panel=STATE)
@option("--reason", metavar="TEXT", default="", help=texts.FORCE_REASON, panel=STATE)
@as_json_option
@click.pass_obj
def update_plan(
    call: CliContext, /, plan: str, as_json: bool, force: bool, reason: str, **options: Any
) -> None:
    """An empty value clears a field (--target ''). `coord validate-plan` names what a plan or milestone
    lacks; exit code 3: it is not complete.
    """
    changes = changes_of(PLAN, options)
    steps: dict[str, Any] = {
        "update_milestones": _updates(options),
        "complete_milestones": _ids(options["complete"]),
        "delete_milestones": _ids(options["delete"]),
        "add_milestones": _added(options),
    }
    forced: dict[str, Any] = {"force": force, "reason": reason, "on_check": print_check}
    refuse_nothing(changes or any(steps.values()), PLAN)
    print_updated(call.coord.manager.update_plan(plan, changes, **steps, **forced), as_json=as_json)


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
    changes, of_status = changes_of(MILESTONE, options), updates.get(options["changed"])
    refuse_nothing(changes or of_status, MILESTONE)
    return {**updates, options["changed"]: lambda m: {**changes(m), **(of_status(m) if of_status else {})}}


def _with_status(status: TodoStatus, _: Milestone) -> dict[str, Any]:
    return {"status": status}


def _added(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    if options["changed"] is not None:
        return []
    fields, name = record_of(MILESTONE, options), options["added"]
    if name is not None and "name" in fields:
        raise UsageError(
            "--add-milestone and --name exclude each other", "name the new milestone: --add-milestone NAME"
        )
    if name is None and fields:
        used = ", ".join(field.option for field in MILESTONE if options.get(field.key))
        raise UsageError(
            f"{used}: no milestone is named", "name a new one: --add-milestone NAME; another: --milestone ID"
        )
    return [] if name is None else [{"name": name, **fields}]


delete_plan = deletes("plan", "PLAN", plan_ids, lambda manager, name: manager.get_plan(name))


@command("manager.list_repos")
@by_name("--tag", "Select repositories with this tag.")
@by_name("--role", "Select repositories with this role.")
@output_options(Repo)
@click.pass_obj
def list_repos(call: CliContext, /, form: Form, **filters: Any) -> None:
    """The numbers of open issues and todos are shown, too."""
    repos = call.coord.manager.list_repos(**filters)
    form.records(repos, lambda: print_repos(repos, call.coord.document))


def _hours(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    return None if text is None else parse_hours(text)


@command("complete_todo")
@click.argument("todo", shell_complete=todo_ids)
@click.option("--hours", metavar="HOURS", callback=_hours, help=f"{texts.HOURS} For example 2h, 90m or 1.5.")
@click.option("--run", metavar="RUN", help=texts.IN_RUN)
@as_json_option
@click.pass_obj
def complete_todo(call: CliContext, todo: str, hours: float | None, run: str | None, as_json: bool) -> None:
    if run is not None and hours is not None:
        raise UsageError(
            "--run and --hours exclude each other", "leave --run out: hours are in the file only"
        )
    if run is not None or not call.coord.has_file:
        _print_continues(todo, call.coord.runs.complete(todo, run).id, as_json=as_json)
        return
    completed = call.coord.complete_todo(todo, hours)
    if completed.edited is not None:
        print_updated(completed.edited, what=f"completed {todo}", as_json=as_json)
    if completed.run_id is not None:
        _print_continues(todo, completed.run_id, as_json=as_json and completed.edited is None)


def _print_continues(todo: str, run_id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"todo": todo, "run_id": run_id})
    click.echo(f"{todo} is done; run {run_id} continues", err=True)


@command("manager.validate_plan_completion")
@click.argument("plan", shell_complete=plan_ids)
@click.option("--run-checks", is_flag=True, help=texts.RUN_CHECKS)
@as_json_option
@click.pass_obj
def validate_plan(call: CliContext, plan: str, run_checks: bool, as_json: bool) -> int:
    """Exit code 3: something is missing."""
    standing = call.coord.manager.validate_plan_completion(plan, run_checks=run_checks, on_check=print_check)
    if as_json:
        print_json(standing)
    else:
        click.echo("\n".join(map(_printable, _lines(standing))))
    return 0 if standing.complete else INCOMPLETE


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
        yield f"  {MARKS[check.accepted]} check {check.check} of {check.repo}: {check.verdict or check.why}"
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
