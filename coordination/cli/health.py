"""`health`, `disconnect-repo`, `connect-repo`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.cli.completion import repo_names, service_names
from coordination.cli.context import CliContext
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import Column, print_table
from coordination.terminal import spelled
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api.health import HealthReport, HealthView

EVERY_S = 2.0
"""Time between two looks of `--watch`."""


@command()
@click.argument("name", required=False, metavar="[REPO|SERVICE]", shell_complete=service_names)
@click.option("--watch", is_flag=True, help="Print it again whenever a state has changed, until Ctrl-C.")
@as_json_option
@click.pass_obj
def health(call: CliContext, name: str | None, watch: bool, as_json: bool) -> int:
    """Show the health of all repositories, remotes, services and disks, or of REPO or SERVICE.

    A worker looks at all of them every 30 seconds. Exit code 0: healthy. 3: degraded: something is down
    that is not required. 1: critical: something required is down, or no worker looks.
    """
    report = call.coord.health(name)
    _show(report, as_json=as_json)
    try:
        while watch:
            time.sleep(EVERY_S)
            before, report = report, call.coord.health(name)
            if _states(before) != _states(report):
                _show(report, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(err=True)
    return report.exit_code


@command()
@click.argument("repo", shell_complete=repo_names)
@click.option("--reason", default="", help="Say why; it is recorded.")
@as_json_option
@click.pass_obj
def disconnect_repo(call: CliContext, repo: str, reason: str, as_json: bool) -> None:
    """Let no todo start in REPO, hand back those that run there, and do not recover it.

    What needs REPO waits until it is connected again: coord connect-repo REPO.
    """
    found = call.coord.health.disconnect(repo, reason)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.repo} is disconnected: {counted(len(found.handed_back), 'todo')} handed back")
    for todo in found.handed_back:
        click.echo(spelled(f"  {todo}"))


@command()
@click.argument("repo", shell_complete=repo_names)
@click.pass_obj
def connect_repo(call: CliContext, repo: str) -> None:
    """Let todos start in REPO again, within five seconds."""
    call.coord.health.connect(repo)
    click.echo(f"{spelled(repo)} is connected")


def _states(report: HealthReport) -> object:
    return report.state, [(one.id, one.state, one.given_up) for one in report.subjects]


def _why(one: HealthView) -> str:
    given_up = f"given up after {counted(one.vain, 'recovery')}: " if one.given_up else ""
    vain = f"; its recovery was vain: {one.vain_why}" if one.vain_why not in ("", one.why) else ""
    return f"{given_up}{one.why}{vain}" or "-"


def _show(report: HealthReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    click.echo(spelled(f"{report.state}{f': {report.why}' if report.why else ''}"))
    if not report.subjects:
        return
    columns = [
        Column(name=name) for name in ("SUBJECT", "STATE", "REQUIRED", "SINCE", "BREAKER", "RECOVERED")
    ]
    columns.append(Column(name="WHY", flexible=True, folds=True))
    rows = [
        (
            one.id,
            one.state,
            "yes" if one.required else "no",
            f"{one.since:%Y-%m-%d %H:%M:%SZ}",
            one.breaker,
            one.recovered,
            _why(one),
        )
        for one in sorted(report.subjects, key=lambda one: (one.state == "healthy", one.id))
    ]
    print_table(columns, rows)
