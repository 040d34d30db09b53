"""`service start|stop|restart|show`, and output of the other commands for services."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from coordination.api import Phase
from coordination.cli.context import CliContext, warn
from coordination.cli.following.follow import start_and_follow
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.times import with_local_times
from coordination.errors import ExitCode
from coordination.models import ServiceStep
from coordination.states import mark_of, spaced
from coordination.terminal import spelled
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api import RunView, ServicesOutcome, Transition
    from coordination.api.run import Run

dry_run_option = click.option("--dry-run", is_flag=True, help="Show the order; change nothing.")


@dry_run_option
@as_json_option
def start(call: CliContext, values: Mapping[str, Any], *, dry_run: bool, as_json: bool) -> int:
    """Exit code 3: a service is not up, or a check has failed."""
    return change(call, ServiceStep.START, **values, dry_run=dry_run, as_json=as_json)


@dry_run_option
@as_json_option
def stop(call: CliContext, values: Mapping[str, Any], *, dry_run: bool, as_json: bool) -> int:
    return change(call, ServiceStep.STOP, **values, dry_run=dry_run, as_json=as_json)


@dry_run_option
@as_json_option
def restart(call: CliContext, values: Mapping[str, Any], *, dry_run: bool, as_json: bool) -> int:
    """Exit as `start` does."""
    return change(call, ServiceStep.RESTART, **values, dry_run=dry_run, as_json=as_json)


@as_json_option
def show(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    """With --json it is an object, or a list of the service on several hosts."""
    services = call.coord.services.show(**values)
    if as_json:
        print_json(services if len(services) > 1 else services[0])
        return
    for one in services:
        for field, value in one.model_dump(mode="json").items():
            if value not in (None, "", []):
                label = spaced(field)
                text = f"{value} s" if label.endswith(" s") else _words(value)
                click.echo(spelled(f"{label.removesuffix(' s'):<12} {with_local_times(text)}"))


def print_log(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(spelled(line))


def print_forgotten(names: Sequence[str]) -> None:
    for name in names:
        click.echo(spelled(f"{name} is forgotten"))


def change(
    call: CliContext,
    step: ServiceStep,
    names: Sequence[str] = (),
    phase: Phase | None = None,
    *,
    dry_run: bool = False,
    as_json: bool = False,
    leave: Callable[[RunView], bool] | None = None,
) -> int:
    """Change services by a run, follow it to its end, or until `leave` returns true, and print its outcome;
    return the exit code.
    """
    services = call.coord.services
    prepared = services.prepare(step, names, phase)
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
        call, start, detach=False, as_json=False, ending=end, leave=leave,
        code=lambda view: _exit_code(services.outcome(prepared, view)),
    )  # fmt: skip


def _number_of(prepared: Transition) -> str:
    checks = sum(one.phase is Phase.INTEGRATION for one in prepared.members)
    services = counted(len(prepared.members) - checks, "service")
    return f"{services} and execute {counted(checks, 'check')}" if checks else services


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
        why = f": {one.why}" if one.why else ""
        click.echo(spelled(f"{mark_of(one.state)} {one.name}  {one.repo}  {one.state}{why}"))
    for one in outcome.details:
        if one.state == "failed" and one.phase is not Phase.INTEGRATION:
            click.echo(spelled(f"log of {one.name}: coord service logs {one.name}"), err=True)
    for line in outcome.warnings:
        warn(line)


def _exit_code(outcome: ServicesOutcome) -> int:
    return ExitCode.SUCCESS if outcome.success else ExitCode.FAILED


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
