"""Events on topics: published, and printed as they come."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import click
from pydantic_core import to_json
from rich_click import command

from coordination.cli.context import CliContext
from coordination.cli.messages import post_of
from coordination.cli.options.values import duration, text_or_stdin
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option

if TYPE_CHECKING:
    from coordination.messages import Event

FOR_EVER_S = float("inf")


@command()
@click.argument("topic")
@click.argument("payload")
@click.option("--type", "kind", default="event", show_default=True, help="What kind of event it is, in a word.")
@as_json_option
@click.pass_obj
def publish(call: CliContext, topic: str, payload: str, kind: str, as_json: bool) -> None:
    """Publish PAYLOAD (JSON, or else text; `-`: standard input) on TOPIC, to whoever is subscribed now.

    It is kept for nobody who is away; `coord send-message` is.
    """
    body = _json_or_text(text_or_stdin(payload))
    with post_of(call) as bus:
        reached = bus.publish(topic, body, type=kind)
    if as_json:
        print_json({"topic": topic, "reached": reached})
    click.echo(f"published on {topic}: reached {reached}", err=True)


@command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC…")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--for", "lasting", metavar="DURATION", callback=duration, help="End after so long (default: Ctrl-C).")
@as_json_option
@click.pass_obj
def subscribe(
    call: CliContext, topics: tuple[str, ...], count: int | None, lasting: timedelta | None, as_json: bool
) -> None:
    """Print what is published on TOPIC from now on: a name (vbia_events), or a pattern (a.*: one word more; a.**: any).

    With --json a line of JSON for each event. What was published while Redis was away is missed, and said so.
    """
    from coordination.messages import Gap

    end, left = time.monotonic() + (lasting.total_seconds() if lasting else FOR_EVER_S), count
    with post_of(call) as bus, bus.listen(*topics) as listening:
        click.echo(f"subscribed to {', '.join(topics)}", err=True)
        for found in listening.events(end - time.monotonic()):
            if isinstance(found, Gap):
                click.echo("warning: Redis was away: events may be missing here", err=True)
                continue
            click.echo(_line(found, as_json=as_json))
            left = None if left is None else left - 1
            if left == 0:
                return


def _json_or_text(words: str) -> object:
    try:
        return json.loads(words)
    except (ValueError, RecursionError):
        return words


def _line(event: Event, *, as_json: bool) -> str:
    if as_json:
        return to_json(event).decode()
    payload = event.payload if isinstance(event.payload, str) else to_json(event.payload).decode()
    return f"{event.at.isoformat(timespec='seconds')}  {event.topic}  {event.sender}  {event.type}  {payload}"
