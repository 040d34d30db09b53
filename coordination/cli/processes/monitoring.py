"""`flower`, `metrics`: monitoring."""

from __future__ import annotations

import os
import signal

import click
from rich_click import command

from coordination.api import FLOWER_COMMAND, FLOWER_PORT, METRICS_PORT
from coordination.api.machine import flower_page, serve_metrics
from coordination.cli.context import CliContext, aloud
from coordination.cli.options.filters import LOOPBACK, parse
from coordination.cli.screen.output import print_flower

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    page = flower_page(call.coord, address, port, read_only=read_only)
    print_flower(page.access, call.coord.settings)
    if not call.coord.settings.redis_url:
        call.coord.local.keep_over_exec()
    os.execve(FLOWER_COMMAND[0], FLOWER_COMMAND, {**os.environ, **page.environment})  # noqa: S606


@command()
@click.option(
    "--listen",
    metavar="[HOST:]PORT",
    default=f"{LOOPBACK}:{METRICS_PORT}",
    show_default=True,
    help="Listen at this address.",
)
@click.pass_obj
def metrics(call: CliContext, listen: str) -> None:
    """Serve coord's metrics to Prometheus, in the foreground: queues, runs, todos, leases, workers."""
    host, port = parse("--listen", listen)
    call.coord.redis_url  # noqa: B018 (a wrong setting, or a server that does not start, is an error here)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # from here on they are waited for
    server = serve_metrics(call.coord, host, port)
    with aloud():
        scheme = "https" if call.coord.settings.tls_certificate else "http"
        click.echo(f"metrics  {scheme}://{listen if ':' in listen else f'{host}:{port}'}/metrics", err=True)
    signal.sigwait(STOPS)
    server.shutdown()
