"""`sweep` and `execute`: preview or start the run of a plan or of one todo."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import click

from coordination.api import DryRun, Selectors, Step, too_large_words
from coordination.cli.context import CliContext, warn, yes_option
from coordination.cli.following.follow import start_and_follow
from coordination.cli.following.summary import NOTHING, format_work
from coordination.cli.landing.changes import discard_before
from coordination.cli.options.values import detach_option
from coordination.cli.screen.output import json_at_end, print_json
from coordination.cli.screen.pager import paged
from coordination.cli.screen.tables import print_table
from coordination.errors import ExitCode
from coordination.terminal import spelled

if TYPE_CHECKING:
    from coordination.api.planning import Sweep, SweepOptions
    from coordination.api.run import Run


@click.option(
    "--dry-run", is_flag=True, help="Print what would run where, and why the rest would not; start nothing."
)
@yes_option
@detach_option
@json_at_end
def sweep(
    call: CliContext, values: dict[str, Any], *, dry_run: bool, yes: bool, detach: bool, as_json: bool
) -> int:
    """Selectors of one kind (`--repo a --repo b`) are a union, different kinds intersect. A todo that depends
    on an open todo outside of the selection is blocked. `--fresh` asks, unless --yes is given.

    Exit code 0: all succeeded. 3: some failed, or all was undone. 5: some were blocked from outside, and
    nothing failed. 6: another run, or a result that has not landed, is in the way.
    """
    plan, accepted = values.pop("plan"), values.pop("accept", ())
    fresh, failed = values.pop("fresh", False), values.pop("failed", False)
    wanted = Selectors(**{one.name: values.pop(one.name) for one in fields(Selectors) if one.name in values})
    options = _options(values)
    if fresh:
        discard_before(call, plan, dry_run=dry_run, yes=yes)
    if dry_run:
        preview = call.coord.runs.preview_sweep(
            plan, wanted, options, failed=failed, accept=accepted, fresh=fresh
        )
        return print_preview(preview, as_json=as_json)
    prepared = call.coord.runs.prepare_sweep(plan, wanted, options, failed=failed)
    return run_prepared(call, prepared, accepted=accepted, detach=detach, as_json=as_json)


@detach_option
@json_at_end
def execute(call: CliContext, values: dict[str, Any], *, detach: bool, as_json: bool) -> int:
    todo, accepted, timeout = values.pop("todo"), values.pop("accept", ()), values.pop("timeout", None)
    prepared = call.coord.runs.prepare_execute(todo, timeout, _options(values))
    return run_prepared(call, prepared, accepted=accepted, detach=detach, as_json=as_json)


def _options(values: Mapping[str, Any]) -> SweepOptions:
    from coordination.api.planning import SweepOptions

    return SweepOptions(**values)


def run_prepared(
    call: CliContext,
    prepared: Sweep,
    *,
    accepted: Collection[str] = (),
    detach: bool = False,
    as_json: bool = False,
    extra: Mapping[str, Any] = NOTHING,
) -> int:
    """Start a prepared run, follow it, print its result; return the exit code. `extra`: further fields of
    the JSON.
    """
    graph = prepared.graph
    if graph.nothing_to_do:
        click.echo(f"nothing to do: {graph.nothing_to_do}", err=True)
        if graph.done:
            click.echo("  to run a todo again: coord todo update TODO --status pending", err=True)
    for name, why in graph.blocked.items():
        click.echo(f"- {name}  blocked by {why}", err=True)
    if not graph.todos:
        if as_json:
            nothing = {"run_id": None, "nothing_to_do": graph.nothing_to_do, "blocked": dict(graph.blocked)}
            print_json({**nothing, **extra})
        return 0 if graph.nothing_to_do else ExitCode.BLOCKED
    runs = call.coord.runs
    ready = runs.make_ready(prepared)
    left = runs.left_out(ready)

    def start() -> Run:
        run = runs.start(ready, accepted)
        work = format_work(graph.size, graph.repos, runs.workplaces(graph.repos, ready.order.max_parallel))
        view = run.view(only=())
        in_run = sum(view.counts.values())
        carried = in_run - len(graph.todos) - len(graph.blocked)  # results of the change set
        of_set = f"; {carried} carried over" if carried else ""
        click.echo(f"run {run.id} of {graph.plan.id}: {work}{of_set}", err=True)
        for one in (*view.takes_over, *left):
            click.echo(spelled(str(one)), err=True)
        return run

    extra = {**extra, "left_out": [asdict(one) for one in left]}
    return start_and_follow(call, start, detach=detach, as_json=as_json, extra=extra)


SHOWN_MATCHES = 10
LONGEST_CODE = 60
SELDOM = ("resources", "secrets", "sandbox", "undone by")

if TYPE_CHECKING:
    from coordination.api.planning import SweepPreview


def print_preview(preview: SweepPreview, *, as_json: bool) -> int:
    """Print the preview; return the exit code that the sweep would start with, or 5 where a part of it is
    blocked.
    """
    if preview.unreachable:
        warn(f"unknown where todos would run: {preview.unreachable}")
    found = preview.dry_run
    if as_json:
        print_json(asdict(found))
    else:
        print_dry_run(found)
    if preview.too_large:
        warn("{}\n  {}".format(*too_large_words(preview.too_large)))
    for words in preview.without_base:
        warn(words)
    return ExitCode.BLOCKED if preview.blocked else 0


@paged()
def print_dry_run(found: DryRun) -> None:
    if found.nothing_to_do:
        click.echo(f"nothing to do: {found.nothing_to_do}", err=True)
    elif found.steps:
        click.echo(f"{found.size} of {found.plan_id} would run", err=True)
    for one in found.takes_over:
        click.echo(spelled(str(one)), err=True)
    if found.steps:
        _print_steps(found.steps)
    for line in _matches(found.steps):
        click.echo(spelled(line))
    if found.steps and found.rest:
        click.echo()
    if found.rest:
        print_table(("would not run", "repo", "why"), ((r.id, r.repo, r.why) for r in found.rest))
    for text in _waits(found):
        click.echo(text, err=True)


def _print_steps(steps: Sequence[Step]) -> None:
    """Print the steps, without columns that are empty."""
    columns = ("#", "todo", "repo", "after", *SELDOM[:3], "where", "timeout", "command", "undone by")
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
        ", ".join(step.secrets),
        step.sandbox,
        where or "nowhere yet" if step.waits_for else where,
        timeout,
        step.command,
        step.undo or "",
    )


def _matches(steps: Sequence[Step]) -> Iterator[str]:
    """Yield what rewrites would change, some of each."""
    for step in steps:
        if step.matches is None:
            continue
        if step.matches.unknown:
            yield f"{step.id} in {step.repo}: matches unknown: {step.matches.unknown}"
            continue
        most = f"more than {len(step.matches.found)}" if step.matches.more else str(len(step.matches.found))
        yield f"{step.id} in {step.repo}: {most} {'match' if most == '1' else 'matches'} in the base branch"
        for match in step.matches.found[:SHOWN_MATCHES]:
            yield f"  {match.file}:{match.line}: {_one_line(match.before)} → {_one_line(match.after)}"
        if left := len(step.matches.found) - SHOWN_MATCHES:
            yield from [f"  and {left} more: --json"] if left > 0 else []


def _one_line(code: str) -> str:
    line = " ".join(code.split())
    return line if len(line) <= LONGEST_CODE else f"{line[: LONGEST_CODE - 1]}…"


def _waits(found: DryRun) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for step in found.steps:
        if step.approval:
            yield f"· {step.id} would wait for {step.approval}"
    for step in found.steps:
        if step.waits_for:
            groups.setdefault(step.waits_for, []).append(step.id)
    for what, (first, *others) in groups.items():
        yield f"· {first}{f' and {len(others)} more' if others else ''} would wait for {what}"
