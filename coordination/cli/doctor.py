"""`doctor`; `health`, `disconnect-repo` and `connect-repo`: the state of the system, and of its parts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from coordination.api import Facts, Finding, RunView, Severity, findings
from coordination.api.machine import examine
from coordination.cli.command import command
from coordination.cli.completion import repo_names, service_names
from coordination.cli.context import CliContext
from coordination.cli.following.summary import waits
from coordination.cli.screen.output import as_json_option, print_facts, print_json
from coordination.cli.screen.pager import paged
from coordination.cli.screen.tables import print_table
from coordination.cli.times import format_time, with_local_times
from coordination.declared import Column
from coordination.terminal import spelled
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api.health import HealthReport, HealthView

WRONG = 1
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
    """The next step is printed with each finding. Exit code 0: no errors, perhaps warnings. 1: errors. 7:
    Redis does not answer.
    """
    facts = examine(call.coord)
    found = findings(facts)
    if as_json:
        print_json(as_data(facts, found))
    else:
        _print(facts, found)
    if facts.trouble:
        return facts.trouble.exit_code
    return WRONG if any(finding.severity is Severity.WRONG for finding in found) else 0


def as_data(facts: Facts, found: Sequence[Finding]) -> dict[str, Any]:
    return {
        "file": asdict(facts.file) if facts.file else None,
        "machine": asdict(facts.machine),
        "redis": {k: v for k, v in asdict(facts.server).items() if k != "findings"} if facts.server else None,
        "workers": [
            {**one.worker.model_dump(mode="json"), "last_heard_s": round(one.ago_s, 1)}
            for one in facts.workers
        ],
        "repos": [
            {
                "repo": repo,
                "hosts": facts.hosts_of(repo),
                "unfit": facts.unfit(repo),
                "queues": _queues(facts, repo),
            }
            for repo in facts.repos
        ],
        "runs": [
            {"run_id": run.run_id, "plan_id": run.plan_id, "status": run.status, "waits": list(_waits(run))}
            for run in facts.runs
        ],
        "poison": facts.poison,
        "restarts": [asdict(restart) for restart in facts.restarts],
        "findings": [asdict(finding) for finding in found],
    }


def _queues(facts: Facts, repo: str) -> dict[str, int]:
    """Return the lengths of the queue that all workers of the repository read (`shared`), and of those of
    one host.
    """
    return {
        host or "shared": n
        for (name, host), n in facts.queues.items()
        if name == repo and (n or host is None)
    }


def _waits(run: RunView) -> Iterator[str]:
    for wait in waits(run):
        yield wait.text.partition("\n")[0]


@paged()
def _print(facts: Facts, found: Sequence[Finding]) -> None:
    print_facts(dict(_head(facts)))
    if facts.workers:
        click.echo()
        _print_workers(facts)
    if facts.repos and facts.queues:
        click.echo()
        _print_repos(facts)
    click.echo()
    for finding in found:
        click.secho(
            f"{finding.severity}: {with_local_times(finding.what)}",
            fg="red" if finding.severity is Severity.WRONG else "yellow",
        )
        click.echo(f"  {finding.hint}")
    if not found:
        click.echo("nothing is wrong")


def _head(facts: Facts) -> Iterator[tuple[str, str]]:
    file, machine, server = facts.file, facts.machine, facts.server
    if file is None:
        yield "file", "none here"
    elif file.problems:
        yield "file", f"{file.path}: {counted(len(file.problems), 'problem')}"
    else:
        yield "file", f"{file.path}: valid, {counted(len(file.repos), 'repository')}"
    agent = f", agent {machine.agent}" if machine.agent else ""
    yield "machine", f"host {machine.host}, coord {machine.version}, git {machine.git or 'none'}{agent}"
    yield from _trust(facts)
    if server:
        yield "Redis", server.address + (" (embedded)" if server.embedded else "")
    if server and server.software:
        limit = f"of {server.maxmemory / MIB:.0f} MiB" if server.maxmemory else "used, no limit"
        files = {True: ", append-only file", False: ", no append-only file", None: ""}[server.append_only]
        yield "", f"{server.software}, {server.used_memory / MIB:.1f} MiB {limit}, {server.policy}{files}"
    for run in facts.runs:
        yield f"run {run.run_id}", "; ".join([f"of {run.plan_id}, {run.status}", *_waits(run)])


def _trust(facts: Facts) -> Iterator[tuple[str, str]]:
    machine = facts.machine
    found = machine.trust
    name = f", {found.name} in the trust file" if found.name else ""
    yield "identity", f"{found.identity}{name}, {found.source}" if found.identity else "none"
    file = f"{found.trust_file}: {counted(found.principals, 'principal')}"
    yield "trust file", file if found.trust_file else "none: everything is allowed"
    yield "signatures", SIGNATURES[machine.signatures]


def _print_workers(facts: Facts) -> None:
    rows = []
    for one in facts.workers:
        worker = one.worker
        places = ", ".join(f"{repo}={worker.places.get(repo, '?')}" for repo in worker.repos)
        clock = f"{round(worker.clock_offset_ms / 1000) or 0:+d} s"
        rows.append(
            (worker.host, worker.pid, worker.version, worker.jobs, clock, f"{one.ago_s:.0f} s ago", places)
        )
    print_table(("HOST", "PID", "COORD", "JOBS", "CLOCK", "HEARD", "REPOSITORIES"), rows)


def _print_repos(facts: Facts) -> None:
    rows, nobody = [], "none until a sweep" if facts.starts_workers else "none"
    for repo in facts.repos:
        lengths = _queues(facts, repo)
        own = ", ".join(f"{n} for {host}" for host, n in lengths.items() if host != "shared")
        queue = f"{lengths['shared']}{f' + {own}' if own else ''}"
        unfit = "; ".join(f"{host}: {why}" for host, why in facts.unfit(repo).items())
        rows.append((repo, ", ".join(facts.hosts_of(repo)) or nobody, queue, unfit))
    print_table(("REPOSITORY", "SERVED BY", "QUEUE", "MISSING ON"), rows)


EVERY_S = 2.0
"""Time between two looks of `--watch`."""


@command("health.__call__")
@click.argument("name", required=False, metavar="[REPO|SERVICE]", shell_complete=service_names)
@click.option("--watch", is_flag=True, help="Print it again whenever a state has changed, until Ctrl-C.")
@as_json_option
@click.pass_obj
def health(call: CliContext, name: str | None, watch: bool, as_json: bool) -> int:
    """With REPO or SERVICE: only its health. Exit code 0: healthy. 3: degraded: something is down that is not
    required. 1: critical: something required is down, or no worker looks.
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


@command("health.disconnect")
@click.argument("repo", shell_complete=repo_names)
@click.option("--reason", default="", help="Say why; it is recorded.")
@as_json_option
@click.pass_obj
def disconnect_repo(call: CliContext, repo: str, reason: str, as_json: bool) -> None:
    """Connect it again: coord connect-repo REPO."""
    disconnected = call.coord.health.disconnect(repo, reason)
    if as_json:
        print_json(disconnected)
        return
    click.echo(
        f"{disconnected.repo} is disconnected: {counted(len(disconnected.handed_back), 'todo')} handed back"
    )
    for todo in disconnected.handed_back:
        click.echo(spelled(f"  {todo}"))


@command("health.connect")
@click.argument("repo", shell_complete=repo_names)
@click.pass_obj
def connect_repo(call: CliContext, repo: str) -> None:
    call.coord.health.connect(repo)
    click.echo(f"{spelled(repo)} is connected")


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
