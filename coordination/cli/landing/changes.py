"""`plan changes|discard|adopt|resolve`, and output of `plan diff`: the work of plans that has not landed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from coordination.api import ChangeView, ChangeWait, CheckVerdict, ConflictState
from coordination.cli.context import CliContext, confirm, despite_quiet, yes_option
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import plain, print_none, print_records, print_table, wide_option
from coordination.cli.times import format_time, how_long
from coordination.declared import Cell, Column
from coordination.errors import ExitCode
from coordination.states import Tone
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api import Adoption, Discarded, RepoDiff, Resolution

RESOLVE_CODES = {ConflictState.OPEN: ExitCode.FAILED, ConflictState.ELSEWHERE: ExitCode.BLOCKED}


def _checks(change: ChangeView) -> Cell:
    """Return `green`, or the checks that are not green; nothing without checks."""
    if not change.checks:
        return Cell("")
    other = [f"{one.verdict}: {one.name}" for one in change.checks if one.verdict != CheckVerdict.GREEN]
    return Cell(", ".join(other), Tone.HELD) if other else Cell("green", Tone.GOOD)


def _request(change: ChangeView) -> Cell:
    """Return the number of the request, and its state, checks and reviews as coord saw them last."""
    ref = change.request
    if ref is None:
        return Cell("")
    if (seen := ref.seen) is None:
        return Cell(f"#{ref.number}")
    words, tone = [f"#{ref.number} {seen.state}"], Tone.NEUTRAL
    if seen.checks is not None:
        waiting = f"{seen.pending} of {seen.checks} checks running" if seen.pending else ""
        green = f"{counted(seen.checks, 'check')} green" if seen.checks else "no checks"
        words.append(f"red: {', '.join(seen.red[:3])}" if seen.red else waiting or green)
        tone = Tone.BAD if seen.red else Tone.ACTIVE if waiting else Tone.NEUTRAL
    if seen.refused_by:
        words.append(f"changes requested by {', '.join(seen.refused_by[:3])}")
        tone = Tone.BAD
    elif seen.approvals:
        words.append(counted(seen.approvals, "approval"))
    age = datetime.now(UTC) - datetime.fromisoformat(seen.at)
    return Cell(f"{', '.join(words)} ({how_long(age)} ago)", tone)


def _state(change: ChangeView) -> Cell:
    if change.landed is None:
        before = f"{_reverted(change)}; waits for " if change.reverted else ""
        if not before and change.wait_reason is ChangeWait.ORDER:
            return Cell(f"ready to land: coord land {change.plan}", Tone.GOOD)
        return Cell(f"{before}{change.waits_for or ''}", Tone.HELD)
    how = f"{change.landed.method} {change.landed.commit[:12]} ({change.landed.via})"
    return Cell(f"landed {format_time(change.landed.at)}: {how}, run {change.landed.run}", Tone.GOOD)


def _reverted(change: ChangeView) -> str:
    reverted = change.reverted
    assert reverted is not None
    how = f"{reverted.by[:12]} ({reverted.via}) takes {reverted.commit[:12]} out"
    page = f", {reverted.request}" if reverted.request else ""
    return f"reverted {format_time(reverted.at)}: {how}{page}, run {reverted.run}"


def _together(found: Sequence[ChangeView]) -> list[tuple[object, ...]]:
    """Return a row for each plan and state: the repositories that are in it, and the sums of their work."""
    groups: dict[tuple[str, Cell], list[ChangeView]] = {}
    for change in found:
        state = Cell("landed", Tone.GOOD) if change.landed else _state(change)
        groups.setdefault((change.plan, state), []).append(change)
    return [
        (
            plan,
            f"{len(some)}: {', '.join(change.repo for change in some)}",
            sum(change.commits or 0 for change in some),
            f"+{sum(change.added or 0 for change in some)} -{sum(change.removed or 0 for change in some)}",
            state,
        )
        for (plan, state), some in groups.items()
    ]


OF_ALL = (
    Column("PLAN"),
    Column("REPOSITORIES", flexible=True),
    Column("COMMITS"),
    Column("LINES"),
    Column("STATE", flexible=True, folds=True),
)
COLUMNS = (
    Column("REPO"),
    Column("BRANCH", wide=True),
    Column("BASE", of=lambda change: change.base[:12] or "?", wide=True),
    Column("TIP", of=lambda change: change.tip[:12], wide=True),
    Column("COMMITS", of=lambda change: "?" if change.commits is None else change.commits),
    Column("FILES", of=lambda change: "?" if change.files is None else change.files, wide=True),
    Column("LINES", of=lambda change: "?" if change.added is None else f"+{change.added} -{change.removed}"),
    Column("TODOS", of=lambda change: len(change.todos), wide=True),
    Column("CHECKS", of=_checks, flexible=True, folds=True),
    Column("WAVE"),
    Column("PULL REQUEST", of=_request, flexible=True, folds=True),
    Column("STATE", of=_state, flexible=True, folds=True),
)


@wide_option(COLUMNS)
@output_options(ChangeView)
def changes(call: CliContext, values: Mapping[str, Any], *, form: Form) -> None:
    found = call.coord.changes.list(**values)
    form.records(found, lambda: _print(found, of_one="plan" in values))


def _print(change_sets: Sequence[ChangeView], *, of_one: bool) -> None:
    if not change_sets:
        print_none("there is no change set", "make one: coord sweep PLAN")
    elif of_one:
        print_records(COLUMNS, change_sets)
    else:
        print_table(OF_ALL, _together(change_sets))


def print_diff(diffs: Sequence[RepoDiff]) -> None:
    if not any(one.files for one in diffs):
        print_none("there is no difference", "list the change sets: coord changes")
    elif any(one.diff is not None for one in diffs):
        _print_text(diffs)
    else:
        _print_files(diffs)


def _print_files(diffs: Iterable[RepoDiff]) -> None:
    rows = [
        (one.repo, file.path, "binary" if file.added is None else f"+{file.added} -{file.removed}")
        for one in diffs
        for file in one.files
    ]
    print_table(("repo", "file", "lines"), rows)


def _print_text(diffs: Iterable[RepoDiff]) -> None:
    for one in diffs:
        what = f"{one.repo}: {one.branch}, {one.base[:12]}..{one.tip[:12]}, {counted(len(one.files), 'file')}"
        click.echo(plain(what), err=True)
        click.echo(one.diff or "", nl=False)
        if one.cut:
            click.echo("cut off here; for the rest, run on the machine that has the commits:", err=True)
            click.echo(f"  git diff {one.base} {one.tip}", err=True)


@click.option("--dry-run", is_flag=True, help="Print what would be discarded; change nothing.")
@yes_option
@as_json_option
def discard(call: CliContext, values: Mapping[str, Any], *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Get a tip back with `git branch NAME refs/coord/discarded/PLAN/COMMIT`."""
    changes = call.coord.changes
    planned = changes.plan_discard(**values)
    if planned is None:  # it says why
        done = changes.discard(**values)
    else:
        _show_discard(planned, dry_run=dry_run)
        done = planned if dry_run else _discard(call, planned, "Discard this?", yes=yes)
    if as_json:
        print_json(done)


def discard_before(call: CliContext, plan: str, *, dry_run: bool, yes: bool) -> None:
    """Discard the change set of a plan before its sweep, if there is one and the user agrees."""
    planned = call.coord.changes.plan_fresh(plan)
    if planned is not None:
        _show_discard(planned, dry_run=dry_run)
        todos = counted(len(planned.todos), "todo")
        question = f"Discard this, and do {todos} again?" if planned.repos else f"Do {todos} again?"
        if not dry_run:
            _discard(call, planned, question, yes=yes)


@despite_quiet()
def _show_discard(planned: Discarded, *, dry_run: bool) -> None:
    would = "would be discarded" if dry_run else "is discarded"
    for one in planned.repos:
        size = "" if one.commits is None else f", {counted(one.commits, 'commit')}"
        click.echo(plain(f"{one.branch} of {one.repo} at {one.tip[:12]}{size} {would}"), err=True)
    if planned.todos and (dry_run or not planned.repos):
        click.echo(plain(f"would be open again: {listed(planned.todos)}"), err=True)


@despite_quiet()
def _discard(call: CliContext, planned: Discarded, question: str, *, yes: bool) -> Discarded:
    confirm(question, yes=yes)
    done = call.coord.changes.discard_planned(planned)
    kept = ["discarded; the tips stay under refs/coord/discarded"] if planned.repos else []
    again = [f"open again: {listed(done.reopened)}"] if done.reopened else []
    click.echo(plain("; ".join([*kept, *again])), err=True)
    return done


@click.option("--dry-run", is_flag=True, help="Print what would be adopted; change nothing.")
@yes_option
@as_json_option
def adopt(call: CliContext, values: Mapping[str, Any], *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """With `--pr`, coord fetches the branch from the forge and later pushes work onto it, never over a commit
    that is there. It refuses a request from a fork or to another base branch.

    coord recognises commits by their trailers: Coord-Plan, Coord-Todo and Coord-Run. With an identity it
    signs the adoption, which needs the right to land.
    """
    plan, changes = values["plan"], call.coord.changes
    adoptions = changes.plan_adoption(**values)
    if not (as_json and (yes or dry_run)):
        _show_adoptions(adoptions)
    if not dry_run:
        confirm(f"Adopt this as the change set of {plan}?", yes=yes)
        changes.record_adoption(plan, adoptions)
        click.echo(f"adopted; see: coord changes {plan}", err=True)
    if as_json:
        print_json([one.model_dump() for one in adoptions])


@despite_quiet()
def _show_adoptions(adoptions: Iterable[Adoption]) -> None:
    for one in adoptions:
        size = f"{counted(one.commits, 'commit')}, {counted(one.files, 'file')}, +{one.added} -{one.removed}"
        before = f", before at {one.before[:12]}" if one.before else ""
        words = f"{one.repo}: {one.branch}, {one.base[:12]}..{one.tip[:12]}{before}: {size}"
        click.echo(plain(f"{words}; todos: {listed(one.todos)}" if one.todos else words), err=True)
        if one.merged:
            click.echo(
                plain(f"  with {one.merged[:12]} of the branch and {one.before[:12]} of the change set"),
                err=True,
            )
        if one.lacks:
            click.echo(
                plain(f"  it lacks the commits of {listed(one.lacks)}, which will be open again"), err=True
            )
        if one.request:
            click.echo(plain(f"  the pull request {one.request.url}"), err=True)
        if one.request_before:
            click.echo(plain(f"  {one.request_before} stays open: close it at the forge"), err=True)


@as_json_option
def resolve(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> int:
    """Exit code 0: there is no conflict, or the merge is adopted. 3: files must be resolved. 5: the commits
    are on another host.
    """
    resolution = call.coord.changes.resolve(**values)
    if as_json:
        print_json(resolution)
    else:
        _print_resolution(resolution)
    return RESOLVE_CODES.get(resolution.state, 0)


def _print_resolution(resolution: Resolution) -> None:
    if resolution.state is ConflictState.NONE:
        click.echo(plain(f"{resolution.repo}: the base branch merges without a conflict"), err=True)
    elif resolution.state is ConflictState.ELSEWHERE:
        click.echo(
            plain(f"{resolution.repo}: the commits are on {resolution.host or 'another host'}"), err=True
        )
    elif resolution.state is ConflictState.RESOLVED:
        goes_on = (
            f"run {resolution.taken_up} continues with it"
            if resolution.run
            else f"adopted as {resolution.taken_up[:12]}"
        )
        watch = f"coord watch {resolution.taken_up}" if resolution.run else f"coord land {resolution.plan}"
        click.echo(plain(f"{resolution.repo}: the merge is committed, {goes_on}: {watch}"), err=True)
    else:
        click.echo(plain(resolution.path))
        click.echo(
            plain(f"on {resolution.host or 'this host'}, branch {resolution.branch}; conflicts:"), err=True
        )
        for file in resolution.files:
            click.echo(plain(f"  {file}"), err=True)
    if resolution.next:
        click.echo(plain(f"next: {resolution.next}"), err=True)
