"""`events`: what happens to runs, todos, locks, breakers and commands, listed and followed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click
from pydantic_core import to_json
from rich_click import command

from coordination.api import GAP, POSITION, Event
from coordination.cli.completion import stream_kinds
from coordination.cli.context import CliContext, warn
from coordination.cli.options.filters import of_repo
from coordination.cli.options.values import moment
from coordination.cli.screen.output import Form, output_options
from coordination.cli.screen.tables import plain, print_table
from coordination.cli.times import format_time
from coordination.text import shortened

TOLD_ELSEWHERE = frozenset({"entry", "plan", "attempt", "event"})
"""Data that a line for people leaves out; `event` is a whole edit as JSON."""
LONGEST_VALUE = 80
"""Characters of a value that a line for people shows."""
LONGEST_LINE = 500


def _since(ctx: click.Context, parameter: click.Parameter, text: str | None) -> str | datetime | None:
    """Accept the id of an event, or what `moment` accepts."""
    return text if text is not None and POSITION.fullmatch(text) else moment(ctx, parameter, text)


@command()
@click.option("--follow", "-f", is_flag=True, help="Print events as they happen, until Ctrl-C.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    shell_complete=stream_kinds,
    help="A kind such as todo.settled, or a pattern such as 'run.*'; may be repeated.",
)
@of_repo
@click.option(
    "--since",
    callback=_since,
    metavar="TIME|ID",
    help="From this time on (2026-01-31, or 7d for 7 days ago), or after the event with this id.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print at most N (default: the latest 20; all with --since or --follow).",
)
@output_options(Event)
@click.pass_obj
def events(
    call: CliContext,
    follow: bool,
    kinds: tuple[str, ...],
    repo: str | None,
    since: str | datetime | None,
    limit: int | None,
    form: Form,
) -> None:
    """Print the events of runs, todos, locks, circuit breakers and commands, oldest first.

    With -f and --json a line of JSON for each event. Kinds that are counted only, such as lock.granted, are
    written while -f asks for them by name. Changes of the file: coord history.
    """
    if not follow:
        found = call.coord.events.list(kinds, repo=repo, since=since, limit=limit)
        form.records(found, lambda: _print(found))
        if not found and not form.wanted:
            click.echo("no event matches", err=True)
        return
    count = 0
    for event in call.coord.events.follow(kinds, repo=repo, since=since):
        if event is None:
            continue
        _print_one(event, form)
        count += event.kind != GAP
        if count == limit:
            return


def _print_one(event: Event, form: Form) -> None:
    if form.as_json:
        click.echo(to_json(event).decode())
    elif form.template is not None:
        click.echo(form.template.line(event))
    elif event.kind == GAP:
        warn(event.title)
    else:
        click.echo("  ".join(filter(None, map(plain, _row(event)))))


def _print(found: Sequence[Event]) -> None:
    print_table(("TIME", "EVENT", "ID", "BY", "REPOS", "WHAT"), [_row(event) for event in found])


def _row(event: Event) -> tuple[str, ...]:
    repos = ", ".join(event.repos)
    return (format_time(event.at), event.kind, event.subject, event.actor, repos, plain(words_of(event)))


def words_of(event: Event) -> str:
    """Return what the event says besides its kind and its subject."""
    data = [
        f"{name}: {shortened(value, LONGEST_VALUE)}"
        for name, value in event.data.items()
        if value and name not in TOLD_ELSEWHERE
    ]
    return shortened("; ".join(filter(None, (event.title, ", ".join(data)))), LONGEST_LINE)
