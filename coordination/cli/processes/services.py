"""`service start|stop|restart|list|show|logs|forget`: programs of repositories that stay up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from coordination.api import Phase, ServiceView, texts
from coordination.api.services import LOG_LINES
from coordination.cli.command import command
from coordination.cli.completion import service_names
from coordination.cli.context import CliContext, warn
from coordination.cli.following.follow import start_and_follow
from coordination.cli.following.summary import SOME_FAILED
from coordination.cli.options.values import choice
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import print_none, print_table
from coordination.cli.times import format_time, with_local_times
from coordination.declared import Column
from coordination.models import ServiceStep
from coordination.terminal import spelled
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api import RunView, ServicesOutcome, Transition
    from coordination.api.run import Run

FAILED = 1
"""Exit code where required services are not up."""
MARKS = {"succeeded": "✓", "failed": "✗"}

some_services = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=service_names)
of_phase = choice("--phase", Phase, texts.PHASE)
dry_run_option = click.option("--dry-run", is_flag=True, help="Show the order; change nothing.")


@command("services.start")
@some_services
@of_phase
@dry_run_option
@as_json_option
@click.pass_obj
def start_service(
    call: CliContext, names: tuple[str, ...], phase: str | None, dry_run: bool, as_json: bool
) -> int:
    """Without NAME: all services.

    Exit code 0: all are up. 1: a required one is not. 3: another one is not, or a check has failed.
    """
    return change(call, ServiceStep.START, names, phase, dry_run=dry_run, as_json=as_json)


@command("services.stop")
@some_services
@dry_run_option
@as_json_option
@click.pass_obj
def stop_service(call: CliContext, names: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Without NAME: all services."""
    return change(call, ServiceStep.STOP, names, None, dry_run=dry_run, as_json=as_json)


@command("services.restart")
@some_services
@of_phase
@dry_run_option
@as_json_option
@click.pass_obj
def restart_service(
    call: CliContext, names: tuple[str, ...], phase: str | None, dry_run: bool, as_json: bool
) -> int:
    """Without NAME: all services."""
    return change(call, ServiceStep.RESTART, names, phase, dry_run=dry_run, as_json=as_json)


@command("services.list")
@some_services
@output_options(ServiceView)
@click.pass_obj
def list_services(call: CliContext, names: tuple[str, ...], form: Form) -> None:
    """Without NAME: all services."""
    services = call.coord.services.list(names)
    form.records(services, lambda: _print(services))


@command("services.show")
@click.argument("name", shell_complete=service_names)
@as_json_option
@click.pass_obj
def show_service(call: CliContext, name: str, as_json: bool) -> None:
    services = call.coord.services.show(name)
    if as_json:
        print_json(
            [one.model_dump(mode="json") for one in services]
            if len(services) > 1
            else services[0].model_dump(mode="json")
        )
        return
    for one in services:
        for field, value in one.model_dump(mode="json").items():
            if value not in (None, "", []):
                label = field.replace("_", " ")
                text = f"{value} s" if label.endswith(" s") else _words(value)
                click.echo(spelled(f"{label.removesuffix(' s'):<12} {with_local_times(text)}"))


@command("services.log")
@click.argument("name", shell_complete=service_names)
@click.option(
    "--lines", type=click.IntRange(min=1), default=LOG_LINES, show_default=True, metavar="N",
    help=texts.LINES,
)  # fmt: skip
@click.pass_obj
def service_logs(call: CliContext, name: str, lines: int) -> None:
    for line in call.coord.services.log(name, lines):
        click.echo(spelled(line))


@command("services.forget")
@some_services
@click.option("--host", required=True, metavar="HOST", help=texts.HOST_GONE)
@as_json_option
@click.pass_obj
def forget_service(call: CliContext, names: tuple[str, ...], host: str, as_json: bool) -> None:
    """Without NAME: all services."""
    forgotten = call.coord.services.forget(host, names)
    if as_json:
        print_json(list(forgotten))
        return
    for name in forgotten:
        click.echo(spelled(f"{name} of host {host} is forgotten"))


def change(
    call: CliContext,
    step: ServiceStep,
    names: Sequence[str] = (),
    phase: str | None = None,
    *,
    dry_run: bool = False,
    as_json: bool = False,
) -> int:
    """Change services by a run, follow it, and print its outcome; return the exit code."""
    services = call.coord.services
    prepared = services.prepare(step, names, Phase(phase) if phase else None)
    if dry_run:
        _print_order(prepared, as_json=as_json)
        return 0

    def start() -> Run:
        run = services.begin(prepared)
        click.echo(f"run {run.id}: {step} {_number_of(prepared)}", err=True)
        return run

    def end(_call: CliContext, _run: Run, view: RunView, **_: object) -> None:
        _print_outcome(services.outcome(prepared, view), as_json=as_json)

    return start_and_follow(
        call, start, detach=False, as_json=False, ending=end,
        code=lambda view: _exit_code(services.outcome(prepared, view)),
    )  # fmt: skip


def _number_of(prepared: Transition) -> str:
    checks = sum(one.phase is Phase.INTEGRATION for one in prepared.members)
    services = counted(len(prepared.members) - checks, "service")
    return f"{services} and execute {counted(checks, 'check')}" if checks else services


def _print(services: Sequence[ServiceView]) -> None:
    if not services:
        print_none("no service is declared", "declare some in the file: coordination.services")
        return
    columns = [
        Column(name) for name in ("SERVICE", "REPO", "PHASE", "HOST", "STATE", "PID", "SINCE", "RESTARTS")
    ]
    columns.append(Column("LAST LOOK", flexible=True, folds=True))
    rows = [
        (
            *(one.name, one.repo, one.phase or "undeclared", one.host or "-", one.state, one.pid or "-"),
            *(format_time(one.since) or "-", one.restarts, one.why),
        )
        for one in services
    ]
    print_table(columns, rows)


def _print_order(prepared: Transition, *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {"phase": one.phase, "name": one.name, "repo": one.repo, "depends_on": list(one.depends_on)}
                for one in prepared.members
            ]
        )
        return
    for one in prepared.members:
        click.echo(spelled(f"{one.phase or '-':<12} {one.name} in {one.repo}"))


def _print_outcome(outcome: ServicesOutcome, *, as_json: bool) -> None:
    if as_json:
        print_json(outcome.model_dump(mode="json"))
        return
    for one in outcome.details:
        mark = MARKS.get(one.state, "-")
        why = f": {one.why}" if one.why else ""
        click.echo(spelled(f"{mark} {one.name}  {one.repo}  {one.state}{why}"))
    for one in outcome.details:
        if one.state == "failed" and one.phase is not Phase.INTEGRATION:
            click.echo(spelled(f"log of {one.name}: coord service logs {one.name}"), err=True)
    for line in outcome.warnings:
        warn(line)


def _exit_code(outcome: ServicesOutcome) -> int:
    if outcome.success:
        return 0
    return SOME_FAILED if outcome.degraded else FAILED


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
