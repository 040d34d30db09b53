"""What looks on from outside: `flower`, `metrics`."""

from __future__ import annotations

import os
import signal

import click
from rich_click import command

from coordination.backend.client import Profile, connect, reaching
from coordination.cli.context import CliContext
from coordination.cli.options.filters import parse
from coordination.cli.screen.output import print_flower
from coordination.operations import metrics as exporter
from coordination.operations.flower import COMMAND, LOOPBACK, PORT, Page, auth

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@command()
@click.option("--address", metavar="HOST", default=LOOPBACK, show_default=True, help="Listen there.")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True)
@click.option("--read-only/--writable", default=True, help="Writable: who has the password may stop tasks and workers.")
@click.pass_obj
def flower(call: CliContext, address: str, port: int, read_only: bool) -> None:
    """Start Flower, which shows workers and tasks, in the foreground.

    User and password are the setting flower_auth, else new ones, which are printed.
    """
    url = call.redis_url()
    with reaching(url), connect(url, Profile.COMMAND, call.settings.connect_timeout) as client:
        client.ping()
    page = Page(
        redis_url=url,
        namespace=call.settings.namespace,
        auth=auth(call.settings),
        address=address,
        port=port,
        read_only=read_only,
    )
    print_flower(page.access, call.settings)
    if not call.settings.redis_url:
        call.local.keep_over_exec()
    os.execve(COMMAND[0], COMMAND, {**os.environ, **page.environment})  # noqa: S606


@command()
@click.option(
    "--listen", metavar="[HOST:]PORT", default=f"{LOOPBACK}:{exporter.PORT}", show_default=True, help="Answer there."
)
@click.pass_obj
def metrics(call: CliContext, listen: str) -> None:
    """Serve coord's metrics to Prometheus, in the foreground: queues, runs, todos, leases, workers."""
    host, port = parse("--listen", listen)
    url = call.redis_url()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # from here on they are waited for
    server = exporter.serve(url, call.settings, host, port)
    click.echo(f"metrics  http://{listen if ':' in listen else f'{host}:{port}'}/metrics", err=True)
    signal.sigwait(STOPS)
    server.shutdown()
