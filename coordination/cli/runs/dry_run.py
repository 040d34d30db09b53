"""`sweep --dry-run`: what would happen, printed. Writes nothing and starts nothing."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from coordination.backend.client import reaching
from coordination.cli.context import CliContext
from coordination.cli.runs.summary import BLOCKED
from coordination.cli.screen.output import print_json
from coordination.cli.screen.tables import print_table
from coordination.errors import Unreachable
from coordination.operations.checkup import not_carried
from coordination.operations.doctor import too_large_words
from coordination.runs.service import Runs
from coordination.runs.submission.dry_run import Outlook, Place, Places, Step, outlook, places_of

SELDOM = ("resources", "undone by")

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph
    from coordination.runs.submission.submit import Order


def rehearse(call: CliContext, graph: PlanGraph, order: Order, *, accepted: Collection[str], as_json: bool) -> int:
    """The exit code is the one that the sweep would begin with, or could at best end with where part of it is blocked."""
    if not call.settings.redis_url:
        call.manager.check_paths(graph.repos)
    found = outlook(graph, order, call.document.ecosystem, call.settings, _places(call, graph, accepted))
    if as_json:
        print_json(asdict(found))
    else:
        print_outlook(found)
    if heavy := not_carried(call.document, call.settings, _needed_elsewhere(graph)):
        click.echo("warning: {}\n  {}".format(*too_large_words(heavy)), err=True)
    return BLOCKED if graph.blocked else 0


def _needed_elsewhere(graph: PlanGraph) -> set[str]:
    """Repositories whose files a todo of another one is given."""
    todos = graph.todos
    return {
        todos[before].repo
        for name, todo in todos.items()
        if todo.needs_paths
        for before in graph.predecessors[name]
        if before in todos and todos[before].repo != todo.repo
    }


def _places(call: CliContext, graph: PlanGraph, accepted: Collection[str]) -> Places:
    """Where the workers are; with the embedded server this machine is the one, once a sweep has started it."""
    configured = call.settings.redis_url
    url = configured or call.local.server.url
    unknown = "a worker"
    if url:
        try:
            with reaching(url):
                runs = Runs(url, call.settings)
                runs.refuse_what_is_under_way(graph.todos)
                workers = runs.presence.workers()
                if workers:
                    runs.refuse_not_landed(call.document.ecosystem, graph, accepted, record=False)
        except Unreachable as error:
            click.echo(f"warning: where each would run is not known: {error}", err=True)
            unknown = "Redis, which does not answer"
        else:
            if configured:
                return places_of(graph.repos, workers)
    if configured:
        return dict.fromkeys(graph.repos, unknown)
    host = call.settings.host or socket.gethostname()
    paths = {repo.name: call.document.repo_path(repo) for repo in call.document.ecosystem.repos}
    return {repo: (Place(host=host, path=str(paths[repo])),) for repo in graph.repos}


def print_outlook(found: Outlook) -> None:
    if found.nothing_to_do:
        click.echo(f"nothing to do: {found.nothing_to_do}", err=True)
    elif found.steps:
        click.echo(f"{found.size} of {found.plan_id} would run: {found.reason}", err=True)
    if found.steps:
        _print_steps(found.steps)
    if found.steps and found.rest:
        click.echo()
    if found.rest:
        print_table(("would not run", "repo", "why"), ((r.id, r.repo, r.why) for r in found.rest))
    for words in _waits(found):
        click.echo(words, err=True)


def _print_steps(steps: Sequence[Step]) -> None:
    """A column that nothing stands in is left out."""
    columns = ("#", "todo", "repo", "after", "resources", "where", "timeout", "command", "undone by")
    rows = [(n, *_row(step)) for n, step in enumerate(steps, 1)]
    shown = [i for i, column in enumerate(columns) if column not in SELDOM or any(row[i] for row in rows)]
    print_table([columns[i] for i in shown], ([row[i] for i in shown] for row in rows))


def _row(step: Step) -> tuple[object, ...]:
    where = ", ".join(f"{place.host}:{place.path}" for place in step.places)
    timeout = "" if step.timeout_s is None else f"{step.timeout_s:g} s"
    return (
        step.id,
        step.repo,
        ", ".join(step.after),
        ", ".join(map(str, step.resources)),
        where or "nowhere yet" if step.waits_for else where,
        timeout,
        step.command,
        step.undo or "",
    )


def _waits(found: Outlook) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for step in found.steps:
        if step.approval:
            yield f"· {step.id} would wait for {step.approval}"
    for step in found.steps:
        if step.waits_for:
            groups.setdefault(step.waits_for, []).append(step.id)
    for what, (first, *others) in groups.items():
        yield f"· {first}{f' and {len(others)} more' if others else ''} would wait for {what}"
