"""`plan land` and `plan revert`: bring a change set into the base branches, and take it out again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from coordination.api import LandOptions, RepoPreview, TodoState
from coordination.cli.context import CliContext, confirm, despite_quiet, yes_option
from coordination.cli.following.follow import conclude, start_and_follow
from coordination.cli.landing.requests import repaired, show_repairs
from coordination.cli.options.values import detach_option
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_records, wide_option
from coordination.cli.times import how_long
from coordination.errors import CoordinationError, ExitCode
from coordination.models import MOST_REPAIRS, LandAction, LandStep
from coordination.terminal import spelled
from coordination.text import counted, listed, quoted

if TYPE_CHECKING:
    from coordination.api import LandingPreview, PreparedLanding, RunView
    from coordination.api.run import Run


@click.option("--dry-run", is_flag=True, help="Print what would land where and how; change nothing.")
@wide_option(RepoPreview.shown.columns)
@yes_option
@detach_option
@as_json_option
def land(
    call: CliContext, values: Mapping[str, Any], *, dry_run: bool, yes: bool, detach: bool, as_json: bool
) -> int:
    """With `--via pr`, the forge merges the pull requests in dependency order. All of them must be open,
    green, and approved as often as the plan requires, before the first one merges. After a failure, further
    requests revert those that have merged. With --when-ready and `land: {repair: N}`, agents repair requests
    with red checks, and the plan lands again, at most N times.

    A plan with waves lands one wave after the other. A failure reverts only its wave, and no later wave
    begins. To land several plans wave by wave, give the id of an item of `coordination.waves` in place of
    PLAN. Show the waves of a run: coord show-run RUN --by-wave

    Exit code 0: all has landed, or there was nothing to land. 2: it cannot land in its present state, such as
    with open todos. 3: a repository was refused. 6: a run writes the change set, or the work of a completed
    todo would be left out.
    """
    plan = values["plan"]
    options = LandOptions(**{name: value for name, value in values.items() if name != "plan"})
    repairs = 0 if detach else MOST_REPAIRS  # they need a command that follows
    prepared = call.coord.landings.prepare(plan, options, repairs=repairs)
    if prepared.graph is None:
        return _nothing_to_do(call, prepared, as_json=as_json)
    if dry_run:
        return _print_preview(call, prepared, as_json=as_json)
    return run_landing(call, prepared, yes=yes, detach=detach, as_json=as_json)


@click.option("--dry-run", is_flag=True, help="Print what would be reverted; change nothing.")
@wide_option(RepoPreview.shown.columns)
@yes_option
@detach_option
@as_json_option
def revert(
    call: CliContext, values: Mapping[str, Any], *, dry_run: bool, yes: bool, detach: bool, as_json: bool
) -> int:
    """The id of an item of `coordination.waves` in place of PLAN reverts all its plans, the last wave first.

    Exit code 0: all is reverted. 3: a repository could not be reverted.
    """
    prepared = call.coord.landings.prepare_revert(**values)
    if dry_run:
        return _print_preview(call, prepared, as_json=as_json)
    return run_landing(call, prepared, yes=yes, detach=detach, as_json=as_json)


def run_landing(
    call: CliContext,
    prepared: PreparedLanding,
    *,
    yes: bool,
    detach: bool = False,
    as_json: bool = False,
) -> int:
    """Ask the user, start a prepared landing or revert, and follow it to its end; return the exit code."""
    landings = call.coord.landings
    preview = landings.preview(prepared, ask=not yes)
    if not yes:
        show_landing(preview)
    else:
        _show_left_out(preview)
        if preview.qa_skipped:
            click.echo(f"· no quality check runs: {preview.qa_skipped}", err=True)
    names = listed(prepared.landing.names)
    confirm(f"{prepared.kind.capitalize()} {prepared.landing.change_set} in {names}?", yes=yes)
    return _follow(call, prepared, detach=detach, as_json=as_json)


def _follow(call: CliContext, prepared: PreparedLanding, *, detach: bool, as_json: bool) -> int:
    """Start a landing or revert, and follow it to its end; then repair its requests and land again, as long
    as it allows that. Return the exit code.
    """
    landings, name = call.coord.landings, prepared.landing.change_set
    ready = landings.make_ready(prepared)
    goes_on = False

    def start() -> Run:
        run = landings.start(ready)
        repos = counted(len(prepared.landing.names), "repository")
        click.echo(
            f"run {run.id} {prepared.kind}s {name} in {repos}: {listed(prepared.landing.names)}", err=True
        )
        return run

    def end(of: CliContext, run: Run, view: RunView, **how: Any) -> None:
        nonlocal goes_on
        goes_on = _waits_for_repair(prepared, view)
        if not goes_on:
            conclude(of, run, view, **how)

    code = start_and_follow(call, start, detach=detach, as_json=as_json, ending=end)
    return _repair_and_land_again(call, prepared, as_json=as_json) if goes_on else code


def _waits_for_repair(prepared: PreparedLanding, view: RunView) -> bool:
    """Return whether the landing has ended only because requests are to be repaired: nobody stopped it, and
    nothing has landed.
    """
    if prepared.graph is None or not prepared.landing.repair or view.steered_by:
        return False
    todos = prepared.graph.todos
    steps = {name: todo.action.step for name, todo in todos.items() if isinstance(todo.action, LandAction)}
    failed = [one.id for one in view.todos if one.has_failed]
    landed = (one for one in view.todos if TodoState.SUCCEEDED in (one.state, one.was))
    return (
        bool(failed)
        and all(steps.get(name) is LandStep.CHECK for name in failed)
        and not any(steps.get(one.id) is LandStep.LAND for one in landed)
    )


def _repair_and_land_again(call: CliContext, prepared: PreparedLanding, *, as_json: bool) -> int:
    """Let agents repair the requests, and land again; where they cannot, land again and wait for people.
    Return the exit code.
    """
    name, repairs = prepared.landing.change_set, prepared.landing.repair - 1
    try:
        fix = call.coord.pr.prepare_fix(name, tuple(prepared.options.repos))
    except CoordinationError as refused:
        click.echo(spelled(f"{name} did not land, and no agent repairs it: {refused.message}"), err=True)
        fix, repairs = None, 0
    if fix is not None and fix.prompts:
        click.echo(f"{name} did not land: agents repair {listed(sorted(fix.prompts))}", err=True)
        results, failed = repaired(call, fix)
        if failed or any(one.error for one in results):
            return show_repairs(results, as_json=as_json) or failed
    again = call.coord.landings.prepare(name, prepared.options, repairs=repairs)
    if again.graph is None:
        return _nothing_to_do(call, again, as_json=as_json)
    return _follow(call, again, detach=False, as_json=as_json)


def _nothing_to_do(call: CliContext, prepared: PreparedLanding, *, as_json: bool) -> int:
    name = prepared.landing.change_set
    call.coord.landings.check_completed(prepared)
    click.echo(f"nothing to do: all of {name} has landed", err=True)
    if as_json:
        print_json({"run_id": None, "nothing_to_do": f"all of {name} has landed"})
    return 0


def _print_preview(call: CliContext, prepared: PreparedLanding, *, as_json: bool) -> int:
    preview = call.coord.landings.preview(prepared)
    if as_json:
        print_json(preview.model_dump())
    else:
        _print(preview)
    return ExitCode.FAILED if preview.problems else 0


@despite_quiet()
def show_landing(preview: LandingPreview) -> None:
    """Print a line for each repository with its expected outcome."""
    for one in preview.repos:
        line = f"  {one.repo} ({one.branch}, {one.via}): would {one.would}"
        click.echo(spelled(f"{line}: {one.problem}" if one.problem else line), err=True)
    _show_not_asked(preview)
    _show_left_out(preview)
    if preview.compared:
        line = f"· {listed(preview.compared)}: completed, and not in the record of the change set; "
        click.echo(spelled(f"{line}git is asked for the work before anything lands"), err=True)
    _show_waves(preview)
    _show_checks(preview)


def _show_not_asked(preview: LandingPreview) -> None:
    for one in preview.repos:
        if one.not_asked:
            click.echo(
                spelled(f"· {one.repo}: unknown is what its remote has now: {one.not_asked}"), err=True
            )


def _show_left_out(preview: LandingPreview) -> None:
    """Print the commits of people that do not land, because no run has included them yet."""
    for one in preview.repos:
        if one.left_out:
            commits, plan = counted(one.left_out, "commit"), one.plan or preview.change_set
            line = f"· {commits} of people on {one.work_branch} of {one.repo} would not land; include them: "
            line += f"coord plan adopt {plan} {one.repo} {quoted(one.work_branch)}"
            click.echo(spelled(line), err=True)


def _show_waves(preview: LandingPreview) -> None:
    """Print a line for each wave: its repositories, its gate, its soak and its check."""
    for wave in preview.waves:
        check = shlex.join(wave.check) if isinstance(wave.check, tuple) else wave.check
        soak = f"soaks for {how_long(timedelta(seconds=wave.soak_s))}" if wave.soak_s else ""
        words = [listed(wave.repos), "waits for an approval" if wave.gate else "", soak]
        words += [f"checked by: {check}"] if check else []
        click.echo(spelled(f"· wave {wave.number}: {'; '.join(filter(None, words))}"), err=True)


def _show_checks(preview: LandingPreview) -> None:
    """Print the quality checks that the landing runs, or the reason why it runs none."""
    for state, green in (("are green for what would land", True), ("run before anything lands", False)):
        if names := [f"{one.check} of {one.repo}" for one in preview.checks if one.green is green]:
            click.echo(spelled(f"· checks that {state}: {listed(names)}"), err=True)
    if preview.qa_skipped:
        click.echo(f"· no quality check runs: {preview.qa_skipped}", err=True)
    elif preview.checks and preview.unchecked:
        click.echo(spelled(f"· no check is declared in {listed(preview.unchecked)}"), err=True)


def _print(preview: LandingPreview) -> None:
    print_records(RepoPreview.shown.columns, preview.repos)
    _show_not_asked(preview)
    _show_left_out(preview)
    _show_waves(preview)
    _show_checks(preview)
    for problem in preview.problems:
        click.echo(spelled(f"✗ {problem}"), err=True)
    if preview.in_place:
        click.echo(
            f"· todos that worked in place, so their work does not land: {listed(preview.in_place)}", err=True
        )
