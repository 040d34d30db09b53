"""The issues: listed, created, changed, closed, deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from coordination.cli.completing import issue_ids
from coordination.cli.context import CliContext
from coordination.cli.desk.changing import creates, deletes, updates
from coordination.cli.desk.happened import say_updated
from coordination.cli.desk.listing import print_issues
from coordination.cli.options.fields import ISSUE
from coordination.cli.options.filling import Changes
from coordination.cli.options.filters import by_name, by_word
from coordination.cli.screen.shown import Form, as_json_option, shown
from coordination.models import Issue, IssueStatus, Level

if TYPE_CHECKING:
    from coordination.tracker.manager import CoordinationManager
    from coordination.tracker.records import Edited, Removed


@command()
@by_word("--status", IssueStatus)
@by_word("--priority", Level)
@by_name("--repo", "Only what touches this repository.")
@by_name("--assignee", "Only what this person or agent is to do.")
@by_name("--label", "Only those with this label.")
@shown(Issue)
@click.pass_obj
def list_issues(call: CliContext, /, form: Form, **filters: Any) -> None:
    """List the issues: most urgent first, then by date. Filters add up."""
    issues = call.manager.list_issues(**filters)
    form.records(issues, lambda: print_issues(issues))


@creates(ISSUE)
def create_issue(desk: CoordinationManager, records: Sequence[Mapping[str, Any]]) -> Sequence[Edited]:
    """Create an issue; prints its id."""
    return desk.create_all("issue", records)


@updates("ISSUE", ISSUE, issue_ids)
def update_issue(desk: CoordinationManager, issue: str, changes: Changes) -> Edited:
    """Change fields of ISSUE; an empty value clears one (--assignee '')."""
    return desk.update_issue(issue, changes)


@command()
@click.argument("issue", shell_complete=issue_ids)
@as_json_option
@click.pass_obj
def close_issue(call: CliContext, issue: str, as_json: bool) -> None:
    """Close ISSUE, and say what may begin now that nothing else holds it up."""
    say_updated(call.manager.close_issue(issue), what=f"closed {issue}", as_json=as_json)


@deletes("ISSUE", issue_ids)
def delete_issue(desk: CoordinationManager, issue: str, cascade: bool) -> Removed:
    """Delete ISSUE; refused while others name it."""
    return desk.delete_issue(issue, cascade=cascade)
