"""`up`, `down`, `worker`, `keeper`, `flower`, `metrics`, `open`: the processes of this machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import FrameType
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

import click

from coordination.api import (
    FLOWER_COMMAND,
    FLOWER_PORT,
    METRICS_PORT,
    WaitReason,
    dashboard_is_installed,
    hide_password,
)
from coordination.cli.command import command
from coordination.cli.context import CliContext, despite_quiet, warn
from coordination.cli.options.values import LOOPBACK, jobs_option, listen_option, of_repos, parse_address
from coordination.cli.screen.output import print_flower
from coordination.environment import without_calling_git
from coordination.errors import Conflict, CoordinationError, ExitCode, NotFound, UsageError
from coordination.models import Issue, Plan, ServiceStep, Todo
from coordination.text import did_you_mean

if TYPE_CHECKING:
    from coordination.api import Running, RunView, Stopped


LOOK_S = 0.5
"""Interval at which `up` looks for a `coord down`."""
ENDS_HERE = (None, WaitReason.SERVICE, WaitReason.SLOT, WaitReason.TIMER)
"""Reasons for which a start of services waits on this machine; None: it does not wait."""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

DETACH = (
    "Return when all processes answer and the services are up, or wait for another machine, person or run; "
    "all stay until coord down."
)

at_most = jobs_option("Run at most N todos at once (default: the setting jobs, else the CPUs).")


@command()
@click.option("--detach", is_flag=True, help=DETACH)
@click.option("--no-flower", is_flag=True, help="Do not start Flower.")
@click.option("--no-dashboard", is_flag=True, help="Do not start the dashboard.")
@at_most
@click.pass_obj
def up(call: CliContext, detach: bool, no_flower: bool, no_dashboard: bool, jobs: int | None) -> int:
    """Start server, worker, Flower and dashboard on this machine, or join those that run. The worker serves
    every repository of the file.

    Then start the services of the file, as coord service start does; the worker takes other todos after that.
    The dashboard needs the extra `web`.
    """
    if not call.coord.document.ecosystem.repos:
        raise UsageError(
            f"{call.coord.document.path} declares no repositories, "
            "so there is nothing that a worker could serve",
            "declare them under `repos:`, or write a new file from the repositories of a folder: "
            "coord init DIR",
        )
    with_dashboard = not no_dashboard and dashboard_is_installed()
    has_services = bool(call.coord.document.ecosystem.coordination.services)
    with call.coord.services.reserve_workers() if has_services else nullcontext():
        running = call.coord.local.up(with_flower=not no_flower, with_dashboard=with_dashboard, jobs=jobs)
        _print_running(running, call)
        code = _start_services(call, leave=_waits_for_others if detach else None) if has_services else 0
    if detach and code != ExitCode.INTERRUPTED:
        call.coord.local.detach()
        click.echo("it stays until: coord down", err=True)
    elif code != ExitCode.INTERRUPTED:
        _stay(call)
    return code


def _start_services(call: CliContext, leave: Callable[[RunView], bool] | None) -> int:
    """Start the services of the file; return the exit code."""
    from coordination.cli.processes.services import change

    try:
        return change(call, ServiceStep.START, leave=leave)
    except Conflict as error:  # another start has not ended, perhaps one from before everything was killed
        warn(f"the services are not started here: {error.message}; {error.hint}")
        return 0


def _waits_for_others(start: RunView) -> bool:
    """Return whether a start of services waits only for what neither they nor this machine can end: a host
    that is away, a person, another run.
    """
    return bool(start.todos) and all(todo.wait_reason not in ENDS_HERE for todo in start.todos)


def _print_running(running: Running, call: CliContext) -> None:
    click.echo(f"Redis   {hide_password(running.url)}")
    click.echo(f"worker  pid {running.worker}, log {call.coord.local.state / 'worker.log'}")
    if running.flower:
        print_flower(running.flower, call.coord.settings)
    if running.dashboard:
        click.echo(f"dashboard  {running.dashboard}  sign in with: coord dashboard token add PERSON")


def _stay(call: CliContext) -> None:
    """Wait for a signal, then stop the processes that no other command uses. Raises CoordinationError if
    another process stops them.
    """
    local, stopped = call.coord.local, threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    click.echo("Ctrl-C stops it", err=True)  # said when it is true
    while not stopped.wait(LOOK_S):
        for line in local.news():
            click.echo(f"! {line}", err=True)
        if local.taken_down():
            raise CoordinationError("stopped by coord down", "start it again: coord up (live runs continue)")
    click.echo("stopping", err=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a second one leaves at once
    services: list[str] = []
    ended = local.leave(lambda: services.extend(call.coord.services.stop_here()))
    _print_stopped(ended, services, ())


@command()
@click.pass_obj
def down(call: CliContext) -> None:
    """Stop the processes that were started for this file: the worker, then the services of this machine in
    reverse order, then the server. Live runs continue at the next start.
    """
    runs = call.coord.local.live_runs()
    services: list[str] = []
    stopped = call.coord.local.down(lambda: services.extend(call.coord.services.stop_here()))
    if not stopped and not services:
        click.echo("nothing was running here", err=True)
    _print_stopped(stopped, services, runs)


def _print_stopped(stopped: tuple[Stopped, ...], services: list[str], runs: tuple[str, ...]) -> None:
    for name in services:
        click.echo(f"stopped: service {name}", err=True)
    for one in stopped:
        click.echo(f"stopped: {one.name} (pid {one.pid})", err=True)
    for run in runs:
        click.echo(f"run {run} is live; it continues at the next: coord up", err=True)


@command()
@of_repos("Serve this repository.", "NAME[=PATH]")
@click.option("--all", "every", is_flag=True, help="Serve every repository of the file.")
@at_most
@click.pass_obj
def worker(call: CliContext, repos: tuple[str, ...], every: bool, jobs: int | None) -> None:
    """Serve repositories of this machine, in the foreground, until stopped.

    A repository lies at PATH, else where the file says, else in ./NAME. The first Ctrl-C waits for running
    todos, the second hands them back.
    """
    if not repos and not every:
        raise UsageError(
            "which repositories?", "name them: coord worker --repo NAME[=PATH] …; or serve all: --all"
        )
    arguments = [*(part for repo in repos for part in ("--repo", repo))]
    arguments += ["--all"] if every else []
    arguments += ["--jobs", str(jobs)] if jobs else []
    _become_worker(call, arguments)


@command()
@click.pass_obj
def keeper(call: CliContext) -> None:
    """Run maintenance, in the foreground, until stopped: timers, lost workers, levels.

    Every worker does that too, unless its Redis user is restricted to its repositories (coord acl --role
    worker). Restricted workers take no step of a run themselves: they need at least one keeper, or one
    unrestricted worker.
    """
    _become_worker(call, ["--keeper"])


def _become_worker(call: CliContext, arguments: list[str]) -> NoReturn:
    url = call.coord.redis_url
    if not call.coord.settings.redis_url:
        arguments += ["--ecosystem", str(call.coord.path), "--state", str(call.coord.local.state)]
        call.coord.local.keep_over_exec()
    elif call.ecosystem:
        arguments += ["--ecosystem", call.ecosystem]
    # By environment: an address may hold a password, and a command line is everybody's.
    environment = {**without_calling_git(os.environ), "COORD_REDIS_URL": url}
    os.execve(sys.executable, [sys.executable, "-P", "-m", "workers", *arguments], environment)  # noqa: S606


@command()
@click.option(
    "--address", metavar="HOST", default=LOOPBACK, show_default=True, help="Listen at this address."
)
@click.option("--port", type=click.IntRange(1, 65535), default=FLOWER_PORT, show_default=True)
@click.option("--read-only/--writable", default=True, help="Forbid or allow to stop tasks and workers.")
@click.pass_obj
def flower(call: CliContext, address: str, port: int, read_only: bool) -> None:
    """Start Flower, which shows workers and tasks, in the foreground.

    User and password are those of the setting flower_auth, else new ones, which are printed.
    """
    from coordination.api.machine import flower_page

    page = flower_page(call.coord, address, port, read_only=read_only)
    print_flower(page.access, call.coord.settings)
    if not call.coord.settings.redis_url:
        call.coord.local.keep_over_exec()
    environment = {**without_calling_git(os.environ), **page.environment}
    os.execve(FLOWER_COMMAND[0], FLOWER_COMMAND, environment)  # noqa: S606


@command()
@listen_option(METRICS_PORT)
@click.pass_obj
def metrics(call: CliContext, listen: str) -> None:
    """Serve coord's metrics to Prometheus, in the foreground: queues, runs, todos, leases, workers."""
    from coordination.api.machine import serve_metrics

    host, port = parse_address("--listen", listen)
    call.coord.redis_url  # noqa: B018 (a wrong setting, or a server that does not start, is an error here)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # from here on they are waited for
    server = serve_metrics(call.coord, host, port)
    with despite_quiet():
        scheme = "https" if call.coord.settings.tls_certificate else "http"
        click.echo(f"metrics  {scheme}://{listen if ':' in listen else f'{host}:{port}'}/metrics", err=True)
    signal.sigwait(STOPS)
    server.shutdown()


@command(name="open")
@click.argument("name", required=False, metavar="[RUN|RECORD|REPOSITORY]")
@click.option("--url", metavar="URL", help="The address of the dashboard (default: that of coord up).")
@click.option("--print", "only_print", is_flag=True, help="Print the address; open nothing.")
@click.pass_obj
def open_(call: CliContext, name: str | None, url: str | None, only_print: bool) -> None:
    """Open the dashboard in the browser: the page Now, or that of a run, a plan, a todo, an issue or a
    repository.
    """
    base = (url or call.coord.local.dashboard_url() or "").rstrip("/")
    if not base:
        raise NotFound("no dashboard runs here", "start it: coord up; or name its address: --url URL")
    page = f"{base}{_page(call, name)}"
    click.echo(page)
    if not only_print and click.launch(page) != 0:
        raise CoordinationError("no browser could be started", f"open it yourself: {page}")


def _page(call: CliContext, name: str | None) -> str:
    if name is None:
        return "/"
    records, repos = list[str](), list[str]()
    if call.coord.has_file:
        ecosystem = call.coord.document.ecosystem
        declared = ecosystem.coordination
        of_kind: tuple[Sequence[Plan | Todo | Issue], ...] = (declared.plans, declared.todos, declared.issues)
        records = [one.id for kind in of_kind for one in kind]
        repos = [one.name for one in ecosystem.repos]
    if name in records:
        return f"/record?id={quote(name)}"
    if name in repos:
        return f"/board?repo={quote(name)}"
    try:
        return f"/run?run={quote(call.coord.runs.get(name).id)}"
    except NotFound as error:
        near = did_you_mean(name, (*records, *repos))
        raise NotFound(
            f"there is no run, plan, todo, issue or repository {name!r}{near}",
            "list them: coord list-runs, coord plan list, coord todo list, coord repo list",
        ) from error
