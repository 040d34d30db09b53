"""`doctor`: the state of the system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from coordination.api import Checkup, Finding, RunView, Severity, findings
from coordination.api.machine import examine
from coordination.cli.command import command
from coordination.cli.context import CliContext
from coordination.cli.following.summary import waits
from coordination.cli.screen.output import as_json_option, print_facts, print_json
from coordination.cli.screen.pager import paged
from coordination.cli.screen.tables import COLOURS, print_table
from coordination.cli.times import with_local_times
from coordination.errors import ExitCode
from coordination.states import tone_of
from coordination.text import counted

MIB = 1024 * 1024
SIGNATURES = {
    "off": "off: workers here execute unsigned orders",
    "warn": "warn: workers here execute unsigned orders, and report them",
    "require": "require: workers here execute signed orders only",
}


@command("machine.examine")
@as_json_option
@click.pass_obj
def doctor(call: CliContext, as_json: bool) -> int:
    """The next step is printed with each finding. Exit code 0: no errors, perhaps warnings. 3: errors. 7:
    Redis does not answer.
    """
    checkup = examine(call.coord)
    found = findings(checkup)
    if as_json:
        print_json(as_data(checkup, found))
    else:
        _print(checkup, found)
    if checkup.trouble:
        return checkup.trouble.exit_code
    return ExitCode.FAILED if any(finding.severity is Severity.WRONG for finding in found) else 0


def as_data(checkup: Checkup, found: Sequence[Finding]) -> dict[str, Any]:
    return {
        "file": asdict(checkup.file) if checkup.file else None,
        "machine": asdict(checkup.machine),
        "redis": _server(checkup),
        "workers": [
            {**one.worker.model_dump(mode="json"), "last_heard_s": round(one.ago_s, 1)}
            for one in checkup.workers
        ],
        "repos": [
            {
                "repo": repo,
                "hosts": checkup.hosts_of(repo),
                "unfit": checkup.unfit(repo),
                "queues": _queues(checkup, repo),
            }
            for repo in checkup.repos
        ],
        "runs": [
            {"run_id": run.run_id, "plan_id": run.plan_id, "status": run.status, "waits": list(_waits(run))}
            for run in checkup.runs
        ],
        "poison": checkup.poison,
        "restarts": [asdict(restart) for restart in checkup.restarts],
        "findings": [asdict(finding) for finding in found],
    }


def _server(checkup: Checkup) -> dict[str, Any] | None:
    if checkup.server is None:
        return None
    return {name: value for name, value in asdict(checkup.server).items() if name != "findings"}


def _queues(checkup: Checkup, repo: str) -> dict[str, int]:
    """Return the lengths of the queue that all workers of the repository read (`shared`), and of those of
    one host.
    """
    return {
        host or "shared": n
        for (name, host), n in checkup.queues.items()
        if name == repo and (n or host is None)
    }


def _waits(run: RunView) -> Iterator[str]:
    for wait in waits(run):
        yield wait.text.partition("\n")[0]


@paged()
def _print(checkup: Checkup, found: Sequence[Finding]) -> None:
    print_facts(dict(_head(checkup)))
    if checkup.machine.agents:
        click.echo()
        _print_agents(checkup)
    if checkup.workers:
        click.echo()
        _print_workers(checkup)
    if checkup.repos and checkup.queues:
        click.echo()
        _print_repos(checkup)
    click.echo()
    for finding in found:
        click.secho(
            f"{finding.severity}: {with_local_times(finding.what)}",
            fg=COLOURS[tone_of(finding.severity)],
        )
        click.echo(f"  {finding.hint}")
    if not found:
        click.echo("nothing is wrong")


def _head(checkup: Checkup) -> Iterator[tuple[str, str]]:
    file, machine, server = checkup.file, checkup.machine, checkup.server
    if file is None:
        yield "file", "none here"
    elif file.problems:
        yield "file", f"{file.path}: {counted(len(file.problems), 'problem')}"
    else:
        yield "file", f"{file.path}: valid, {counted(len(file.repos), 'repository')}"
    agent = f", agent {machine.agent}" if machine.agent else ""
    yield "machine", f"host {machine.host}, coord {machine.version}, git {machine.git or 'none'}{agent}"
    yield from _trust(checkup)
    if server:
        yield "Redis", server.address + (" (embedded)" if server.embedded else "")
    if server and server.software:
        limit = f"of {server.maxmemory / MIB:.0f} MiB" if server.maxmemory else "used, no limit"
        files = {True: ", append-only file", False: ", no append-only file", None: ""}[server.append_only]
        yield "", f"{server.software}, {server.used_memory / MIB:.1f} MiB {limit}, {server.policy}{files}"
    for run in checkup.runs:
        yield f"run {run.run_id}", "; ".join([f"of {run.plan_id}, {run.status}", *_waits(run)])


def _trust(checkup: Checkup) -> Iterator[tuple[str, str]]:
    machine = checkup.machine
    found = machine.trust
    name = f", {found.name} in the trust file" if found.name else ""
    yield "identity", f"{found.identity}{name}, {found.source}" if found.identity else "none"
    file = f"{found.trust_file}: {counted(found.principals, 'principal')}"
    yield "trust file", file if found.trust_file else "none: everything is allowed"
    yield "signatures", SIGNATURES[machine.signatures]


def _print_agents(checkup: Checkup) -> None:
    rows = []
    for one in checkup.machine.agents:
        version = one.version or one.why_no_version
        rows.append((one.name, one.kind, one.path or f"{one.program}: not found", version, one.login))
    print_table(("AGENT", "KIND", "PROGRAM", "VERSION", "LOGIN"), rows)


def _print_workers(checkup: Checkup) -> None:
    rows = []
    for one in checkup.workers:
        worker = one.worker
        places = ", ".join(f"{repo}={worker.places.get(repo, '?')}" for repo in worker.repos)
        clock = f"{round(worker.clock_offset_ms / 1000) or 0:+d} s"
        rows.append(
            (worker.host, worker.pid, worker.version, worker.jobs, clock, f"{one.ago_s:.0f} s ago", places)
        )
    print_table(("HOST", "PID", "COORD", "JOBS", "CLOCK", "HEARD", "REPOSITORIES"), rows)


def _print_repos(checkup: Checkup) -> None:
    rows, nobody = [], "none until a sweep" if checkup.starts_workers else "none"
    for repo in checkup.repos:
        lengths = _queues(checkup, repo)
        own = ", ".join(f"{n} for {host}" for host, n in lengths.items() if host != "shared")
        queue = f"{lengths['shared']}{f' + {own}' if own else ''}"
        unfit = "; ".join(f"{host}: {why}" for host, why in checkup.unfit(repo).items())
        rows.append((repo, ", ".join(checkup.hosts_of(repo)) or nobody, queue, unfit))
    print_table(("REPOSITORY", "SERVED BY", "QUEUE", "MISSING ON"), rows)
