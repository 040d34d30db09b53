"""`sweep --dry-run`: prints the preview of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from coordination.api import DryRun, Step, too_large_words
from coordination.cli.context import warn
from coordination.cli.following.summary import BLOCKED
from coordination.cli.screen.output import print_json
from coordination.cli.screen.pager import paged
from coordination.cli.screen.tables import print_table
from coordination.terminal import spelled

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
    return BLOCKED if preview.blocked else 0


@paged()
def print_dry_run(found: DryRun) -> None:
    if found.nothing_to_do:
        click.echo(f"nothing to do: {found.nothing_to_do}", err=True)
    elif found.steps:
        click.echo(f"{found.size} of {found.plan_id} would run; strategy: {found.reason}", err=True)
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
    words = " ".join(code.split())
    return words if len(words) <= LONGEST_CODE else f"{words[: LONGEST_CODE - 1]}…"


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
