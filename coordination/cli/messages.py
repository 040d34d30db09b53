"""`topic subscribe`, and output of the commands for messages."""

from __future__ import annotations

import time
from datetime import timedelta

import click
from pydantic_core import to_json

from coordination.api.messages import Acknowledged, Event, Gap, Published, Registered, Sent, text_of
from coordination.cli.command import command
from coordination.cli.context import CliContext, warn
from coordination.cli.options.values import duration
from coordination.cli.screen.output import as_json_option
from coordination.cli.times import format_time
from coordination.text import counted


def print_sent(sent: Sent) -> None:
    click.echo(sent.id)
    click.echo(f"sent to {sent.to}", err=True)


def print_registered(registered: Registered) -> None:
    click.echo(f"messages to {registered.to} are kept from now on", err=True)


def print_acknowledged(done: Acknowledged) -> None:
    click.echo(f"{counted(len(done.acknowledged), 'message')} of {done.to} acknowledged", err=True)
    if done.trimmed:
        warn(f"{counted(done.trimmed, 'message')} discarded unread: the inbox was full")


def print_published(published: Published) -> None:
    click.echo(f"published on {published.topic}: reached {published.reached}", err=True)


FOR_EVER_S = float("inf")


@command("topic.subscribe")
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC…")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many events.")
@click.option(
    "--for", "lasting", metavar="DURATION", callback=duration, help="Stop after so long (default: at Ctrl-C)."
)
@as_json_option
@click.pass_obj
def subscribe(
    call: CliContext, topics: tuple[str, ...], count: int | None, lasting: timedelta | None, as_json: bool
) -> None:
    """TOPIC is a name (vbia_events), or a pattern (a.*: one word more; a.**: any). With --json a line of JSON
    is printed for each event.
    """
    end, left = time.monotonic() + (lasting.total_seconds() if lasting else FOR_EVER_S), count
    with call.coord.topic.subscribe(*topics) as listening:
        click.echo(f"subscribed to {', '.join(topics)}", err=True)
        for found in listening.events(end - time.monotonic()):
            if isinstance(found, Gap):
                warn("Redis was away: events may be missing here")
                continue
            click.echo(_line(found, as_json=as_json))
            left = None if left is None else left - 1
            if left == 0:
                return


def _line(event: Event, *, as_json: bool) -> str:
    if as_json:
        return to_json(event).decode()
    payload = text_of(event.payload)
    return f"{format_time(event.at)}  {event.topic}  {event.sender}  {event.type}  {payload}"
