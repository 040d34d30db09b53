"""`send-message`, `list-messages`, `publish`, `subscribe`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import timedelta

import click
from pydantic_core import to_json

from coordination.api import texts
from coordination.api.messages import ALL, NOTE, Event, Gap, MessageView
from coordination.cli.command import command
from coordination.cli.completion import repo_names
from coordination.cli.context import CliContext, warn
from coordination.cli.options.values import duration, text_or_stdin
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import filled, print_none, print_table
from coordination.cli.times import format_time
from coordination.declared import Column
from coordination.errors import UsageError
from coordination.text import counted

PRIORITY = click.IntRange(-100, 100)


@command("inbox.send")
@click.argument("to", shell_complete=repo_names)
@click.argument("text")
@click.option("--type", default=NOTE, show_default=True, help=texts.MESSAGE_TYPE)
@click.option(
    "--ttl",
    metavar="DURATION",
    callback=duration,
    help="Do not deliver it after so long (default: `inbox_keep`, 24h).",
)
@click.option("--priority", type=PRIORITY, default=0, show_default=True, help=texts.PRIORITY)
@click.option("--reply-to", metavar="TO", shell_complete=repo_names, help=texts.REPLY_TO)
@as_json_option
@click.pass_obj
def send_message(
    call: CliContext,
    to: str,
    text: str,
    type: str,
    ttl: timedelta | None,
    priority: int,
    reply_to: str | None,
    as_json: bool,
) -> None:
    """TEXT `-` is standard input. TO is a repository, or KIND:NAME, as in agent:claude or person:ann."""
    sent = call.coord.inbox.send(to, text_or_stdin(text), type, ttl=ttl, priority=priority, reply_to=reply_to)
    if as_json:
        print_json(sent)
    else:
        click.echo(sent.id)
    click.echo(f"sent to {sent.to}", err=True)


@command("inbox.waiting")
@click.argument("to", required=False, shell_complete=repo_names)
@click.option(
    "--ack",
    "done",
    metavar="ID",
    multiple=True,
    help=f"Acknowledge a message: its id, the end of it, or `{ALL}`.",
)
@click.option("--dead", is_flag=True, help=texts.DEAD)
@click.option("--resend", metavar="ID", help="Send a dead letter again.")
@click.option(
    "--register",
    is_flag=True,
    help="Keep messages to TO from now on (repositories of the file always have an inbox).",
)
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help=texts.MOST_MESSAGES
)
@output_options(MessageView)
@click.pass_obj
def list_messages(
    call: CliContext,
    to: str | None,
    done: tuple[str, ...],
    dead: bool,
    resend: str | None,
    register: bool,
    limit: int,
    form: Form,
) -> None:
    """TO is a repository, or KIND:NAME. `--ack` acknowledges messages. `--ack` and `--resend` need the right
    to send messages.
    """
    if (done != ()) + dead + (resend is not None) > 1 and not (dead and resend):
        raise UsageError("--ack, --dead and --resend exclude each other", "use one of them")
    if (done or register) and to is None:
        option = "--ack ID" if done else "--register"
        raise UsageError("--ack and --register need a recipient", f"coord list-messages TO {option}")
    inbox = call.coord.inbox
    to = inbox.recipient(to) if to else None
    if done and to:
        acknowledged = inbox.acknowledge(to, done)
        form.record(acknowledged, {}, lambda: None)
        click.echo(f"{counted(len(acknowledged.acknowledged), 'message')} of {to} acknowledged", err=True)
        if acknowledged.trimmed:
            warn(f"{counted(acknowledged.trimmed, 'message')} discarded unread: the inbox was full")
    elif resend:
        sent = inbox.resend(to, resend)
        form.record(sent, {}, lambda: None)
        click.echo(f"sent again: {sent.id}", err=True)
    else:
        found = inbox.dead(to, limit) if dead else inbox.waiting(to, limit, register=register)
        if register:
            click.echo(f"messages to {to} are kept from now on", err=True)
        form.records(found, lambda: _print(found, to, dead=dead))


def _print(found: Sequence[MessageView], to: str | None, *, dead: bool) -> None:
    if not found:
        what = f"no {'dead ' if dead else ''}message{f' for {to}' if to else ''}"
        print_none(what, "send one: coord send-message TO TEXT")
        return
    names = (
        "ID",
        "" if to else "TO",
        "FROM",
        "SENT",
        "TYPE",
        "PRIORITY",
        "DELIVERIES",
        "READER",
        "WHY",
        "TEXT",
    )
    columns = [Column(name, flexible=name in ("WHY", "TEXT"), folds=name == "TEXT") for name in names]
    print_table(*filled(columns, [_row(message, to) for message in found]))


def _row(message: MessageView, to: str | None) -> tuple[object, ...]:
    """Return the cells of a message. The last part of an id is enough for `--ack`."""
    return (
        message.id.rpartition("/")[2],
        "" if to else message.to,
        message.sender,
        format_time(message.sent_at),
        message.type,
        message.priority or "",
        message.deliveries if message.deliveries > 1 else "",
        message.reader,
        message.why,
        _text_of(message.payload),
    )


def _text_of(payload: object) -> str:
    return payload if isinstance(payload, str) else to_json(payload).decode()


FOR_EVER_S = float("inf")


@command("inbox.publish")
@click.argument("topic")
@click.argument("payload")
@click.option("--type", default="event", show_default=True, help=texts.EVENT_TYPE)
@as_json_option
@click.pass_obj
def publish(call: CliContext, topic: str, payload: str, type: str, as_json: bool) -> None:
    """PAYLOAD is JSON, or else text; `-` is standard input."""
    body = _json_or_text(text_or_stdin(payload))
    reached = call.coord.inbox.publish(topic, body, type)
    if as_json:
        print_json({"topic": topic, "reached": reached})
    click.echo(f"published on {topic}: reached {reached}", err=True)


@command("inbox.listen")
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
    with call.coord.inbox.listen(*topics) as listening:
        click.echo(f"subscribed to {', '.join(topics)}", err=True)
        for found in listening.events(end - time.monotonic()):
            if isinstance(found, Gap):
                warn("Redis was away: events may be missing here")
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
    payload = _text_of(event.payload)
    return f"{format_time(event.at)}  {event.topic}  {event.sender}  {event.type}  {payload}"
