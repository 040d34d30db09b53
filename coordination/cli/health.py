"""`repo health`, and output of `repo disconnect` and `repo connect`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from coordination.api.health import Connected, Disconnected, HealthReport, HealthView
from coordination.cli.context import CliContext
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_table
from coordination.cli.times import format_time
from coordination.declared import Column
from coordination.terminal import spelled
from coordination.text import counted

EVERY_S = 2.0
"""Time between two looks of `--watch`."""


@click.option("--watch", is_flag=True, help="Print it again whenever a state has changed, until Ctrl-C.")
@as_json_option
def health(call: CliContext, values: Mapping[str, Any], *, watch: bool, as_json: bool) -> int:
    """Exit code 3: something is down, or no worker looks."""
    report = call.coord.health(**values)
    _show(report, as_json=as_json)
    try:
        while watch:
            time.sleep(EVERY_S)
            before, report = report, call.coord.health(**values)
            if _states(before) != _states(report):
                _show(report, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(err=True)
    return report.exit_code


def print_disconnected(done: Disconnected) -> None:
    click.echo(f"{done.repo} is disconnected: {counted(len(done.handed_back), 'todo')} handed back")
    for todo in done.handed_back:
        click.echo(spelled(f"  {todo}"))


def print_connected(done: Connected) -> None:
    click.echo(f"{spelled(done.repo)} is connected")


def _states(report: HealthReport) -> object:
    return report.state, [(one.id, one.state, one.given_up) for one in report.subjects]


def _why(one: HealthView) -> str:
    given_up = f"given up after {counted(one.vain, 'recovery')}: " if one.given_up else ""
    failure = f"; its recovery failed: {one.vain_why}" if one.vain_why not in ("", one.why) else ""
    return f"{given_up}{one.why}{failure}" or "-"


def _show(report: HealthReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    click.echo(spelled(f"{report.state}{f': {report.why}' if report.why else ''}"))
    if not report.subjects:
        return
    columns = [Column(name) for name in ("SUBJECT", "STATE", "REQUIRED", "SINCE", "BREAKER", "RECOVERED")]
    columns.append(Column("WHY", flexible=True, folds=True))
    rows = [
        (
            one.id,
            one.state,
            "yes" if one.required else "no",
            format_time(one.since),
            one.breaker,
            one.recovered,
            _why(one),
        )
        for one in sorted(report.subjects, key=lambda one: (one.state == "healthy", one.id))
    ]
    print_table(columns, rows)
