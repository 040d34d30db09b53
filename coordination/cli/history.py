"""`event list`; `history rebuild`, `export` and `import`; output of `history search` and `history trends`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import click
from pydantic_core import to_json

from coordination.api import GAP, Event, HistoryEvent, RunTrend, Trend, Trends
from coordination.cli.context import CliContext, warn
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.pager import paged
from coordination.cli.screen.tables import plain, print_table
from coordination.cli.times import format_time
from coordination.errors import Conflict, CoordinationError
from coordination.files import replacing
from coordination.text import counted, shortened

FACTS = (
    "status", "state", "attempt", "duration_ms", "exit_code", "level", "reason", "result", "succeeded",
    "failed", "skipped", "cancelled", "compensated", "bound_s", "first", "last", "commit", "by", "via",
)  # fmt: skip
"""Data of events that a line shows."""
MOST_CHANGES = 3
"""Fields of a change that a line shows."""
LONGEST_VALUE = 80
"""Characters of a value that a line for people shows."""
LONGEST_TITLE = 300


def print_events(events: Sequence[HistoryEvent]) -> None:
    times = [format_time(event.at).split(" ", 2) for event in events]
    print_table(
        HistoryEvent.shown.columns,
        [
            (
                f"{day} {time}",
                zone,
                event.kind,
                event.subject,
                _by(event),
                plain(event.matched or _summary(event)),
            )
            for event, (day, time, zone) in zip(events, times, strict=True)
        ],
    )


def _by(event: HistoryEvent) -> str:
    """Return the actor, and the run whose results the actor wrote."""
    run = event.data.get("run")
    return f"{event.actor} for run {run}" if event.actor and run not in (None, event.subject) else event.actor


def _summary(event: HistoryEvent) -> str:
    """Return the changed fields; without changes, the title and the counts of a foreign change."""
    if event.changes:
        shown = [
            f"{field}: {_value(old)} → {_value(new)}"
            for field, (old, new) in list(event.changes.items())[:MOST_CHANGES]
        ]
        more = len(event.changes) - MOST_CHANGES
        forced = f"; forced: {event.data['reason']}" if "forced_over" in event.data else ""
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "") + forced
    counts = event.data.get("counts")
    if isinstance(counts, dict) and counts and event.kind == "file.changed":
        return ", ".join(f"{number} {kind}" for kind, number in counts.items())
    facts = [
        f"{name} {_value(value)}"
        for name, value in event.data.items()
        if name in FACTS and value not in ("", 0)
    ]
    return "; ".join(part for part in (", ".join(facts), shortened(event.title, LONGEST_TITLE)) if part)


def _value(value: object) -> str:
    if value in (None, [], {}, ""):
        return "none"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = ", ".join(value)
    else:
        text = to_json(value).decode() if isinstance(value, list | dict) else str(value)
    return shortened(text, LONGEST_VALUE)


@as_json_option
def rebuild(call: CliContext, _: Mapping[str, Any], *, as_json: bool) -> None:
    count = call.coord.memory.rebuild()
    if as_json:
        print_json({"events": count})
    else:
        click.echo(f"the history has {counted(count, 'event')}", err=True)


@click.argument("file", type=click.Path(path_type=Path), required=False)
def export(call: CliContext, _: Mapping[str, Any], *, file: Path | None) -> None:
    """Without FILE it is written to standard output."""
    lines = call.coord.memory.export()
    if file is None:
        for line in lines:
            click.echo(line, nl=False)
        return
    if file.exists() or file.is_symlink():
        raise Conflict(f"{file} exists already", "name another file, or remove that one")
    try:
        with replacing(file, durable=True) as out:
            for line in lines:
                out.write(line.encode())
    except OSError as error:
        raise CoordinationError(
            f"{file} cannot be written: {error.strerror}", "make room, or name another file"
        ) from error


@click.argument("file", type=click.File("r", encoding="utf-8", errors="replace"))
@as_json_option
def import_(call: CliContext, _: Mapping[str, Any], *, file: IO[str], as_json: bool) -> None:
    """With `-` for FILE, standard input is read."""
    count = call.coord.memory.import_lines(file)
    if as_json:
        print_json({"imported": count})
    else:
        click.echo(f"imported {counted(count, 'event')}", err=True)


def print_trends(found: Trends) -> None:
    with paged():
        for trend in (found.issue, found.todo, found.run):
            _print_trend(trend)


def _print_trend(trend: Trend | RunTrend) -> None:
    sums: Mapping[str, Mapping[str, float]]
    if isinstance(trend, Trend):
        click.echo(f"{trend.entity}s, open now: {trend.days[-1].open}")
        labels, sums = (
            LABELS,
            {
                "done by repository": trend.done_by_repo,
                "done by assignee": trend.done_by_assignee,
                "hours done by repository": trend.hours_by_repo,
                "hours done by assignee": trend.hours_by_assignee,
            },
        )
    else:
        click.echo("runs")
        labels, sums = (
            RUN_LABELS,
            {
                "hours waited by cause": trend.waited_h_by_cause,
                "hours worked by repository": trend.worked_h_by_repo,
            },
        )
    print_table(
        ("FIGURE", f"LAST {len(trend.days)} DAYS", "BEFORE", "TREND"),
        [
            (
                label,
                _number(getattr(trend.now, name)),
                _number(getattr(trend.before, name)),
                trend.direction[name],
            )
            for name, label in labels.items()
        ],
    )
    for heading, numbers in sums.items():
        if numbers:
            click.echo(f"{heading}: " + plain(", ".join(f"{name} {n:.4g}" for name, n in numbers.items())))


LABELS = {
    "created": "created",
    "done": "done",
    "lead_h_median": "lead time, median h",
    "lead_h_p90": "lead time, p90 h",
    "cycle_h_median": "work, median h",
    "cycle_h_p90": "work, p90 h",
    "actual_by_estimate": "actual time compared with the estimate",
}
RUN_LABELS = {
    "succeeded": "todos succeeded",
    "failed": "todos failed",
    "failure_rate": "failure rate",
    "retries": "retries",
    "cache_hit_rate": "results reused, share",
    "worked_h": "worked, h",
    "waited_h": "waited, h",
    "makespan_by_bound": "duration compared with the shortest possible",
}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


SHOWN_ELSEWHERE = frozenset({"entry", "plan", "attempt", "event"})
"""Data that a line for people leaves out; `event` is a whole edit as JSON."""
LONGEST_LINE = 500


@click.option("--follow", "-f", is_flag=True, help="Print events as they happen, until Ctrl-C.")
@output_options(Event)
def event_list(call: CliContext, values: Mapping[str, Any], *, follow: bool, form: Form) -> None:
    """With -f and --json, each event is a line of JSON. Kinds that are counted only, such as lock.granted,
    are written while -f asks for them by name. See changes of the file with coord history search.
    """
    if not follow:
        events = call.coord.events.list(**values)
        form.records(events, lambda: _print(events))
        if not events and not form.wanted:
            click.echo("no event matches", err=True)
        return
    filters = {name: value for name, value in values.items() if name != "limit"}
    count = 0
    for event in call.coord.events.follow(**filters):
        if event is None:
            continue
        _print_one(event, form)
        count += event.kind != GAP
        if count == values.get("limit"):
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


def _print(events: Sequence[Event]) -> None:
    print_table(("TIME", "EVENT", "ID", "BY", "REPOS", "WHAT"), [_row(event) for event in events])


def _row(event: Event) -> tuple[str, ...]:
    repos = ", ".join(event.repos)
    return (format_time(event.at), event.kind, event.subject, event.actor, repos, plain(text_of(event)))


def text_of(event: Event) -> str:
    """Return the title and the data of an event as text."""
    data = [
        f"{name}: {shortened(value, LONGEST_VALUE)}"
        for name, value in event.data.items()
        if value and name not in SHOWN_ELSEWHERE
    ]
    return shortened("; ".join(filter(None, (event.title, ", ".join(data)))), LONGEST_LINE)
