"""`land` and `revert`: bring a change set into the base branches, and take it out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.api import LandOptions
from coordination.cli.completion import plan_ids, repo_names
from coordination.cli.context import CliContext, aloud
from coordination.cli.options.prompts import confirm, yes_option
from coordination.cli.options.values import choice
from coordination.cli.runs.sweep import see_through
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_table
from coordination.models import Method, Via
from coordination.terminal import spelled
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api import LandingPreview, RepoPreview
    from coordination.api.run import Run
    from coordination.landing.start import PreparedLanding

detach_option = click.option("--detach", is_flag=True, help="Return at once; follow it: coord watch last.")
REFUSED = 6


@command()
@click.argument("plan", shell_complete=plan_ids)
@choice("--via", Via, "Default: as in the plan, else push where the repository has a url.")
@click.option(
    "--repo", "repos", multiple=True, metavar="REPO", shell_complete=repo_names,
    help="Land only REPO and other named ones; what their changes build on must be among them.",
)  # fmt: skip
@choice("--method", Method, "Default: as in the plan, else merge.")
@click.option("--dry-run", is_flag=True, help="Print what would land where and how; change nothing.")
@yes_option
@detach_option
@as_json_option
@click.pass_obj
def land(
    call: CliContext,
    plan: str,
    via: str | None,
    repos: tuple[str, ...],
    method: str | None,
    dry_run: bool,
    yes: bool,
    detach: bool,
    as_json: bool,
) -> int:
    """Bring the change set of PLAN into the base branches of its repositories, in dependency order.

    All repositories are checked first: the base branch, a merge without conflicts, the right to push. If one
    refuses for good after that, those that have landed are reverted, unless the plan says `atomic: repo`.
    Trouble that passes is waited for. Nothing is ever forced.

    Exit code 0: all has landed, or nothing was to be landed. 3: something was refused. 6: a run writes the
    change set, or it cannot land as it is.
    """
    options = LandOptions(
        via=Via(via) if via else None, method=Method(method) if method else None, repos=repos
    )
    prepared = call.coord.landings.prepare(plan, options)
    if prepared.graph is None:
        click.echo(f"nothing to do: all of {plan} has landed", err=True)
        if as_json:
            print_json({"run_id": None, "nothing_to_do": f"all of {plan} has landed"})
        return 0
    names = listed(prepared.landing.names)
    question = f"Land {plan} in {names}?"
    return _carry_out(call, prepared, question, dry_run=dry_run, yes=yes, detach=detach, as_json=as_json)


@command()
@click.argument("plan", metavar="PLAN|RUN", shell_complete=plan_ids)
@click.option("--dry-run", is_flag=True, help="Print what would be reverted; change nothing.")
@yes_option
@detach_option
@as_json_option
@click.pass_obj
def revert(call: CliContext, plan: str, dry_run: bool, yes: bool, detach: bool, as_json: bool) -> int:
    """Take what has landed of PLAN, or by RUN, out of the base branches again, by one commit in each.

    The order is that of the landing, backwards; history is never rewritten. Then the change set is open as
    before: a sweep builds on it, and it can land again.

    Exit code 0: all is reverted. 3: something could not be reverted.
    """
    prepared = call.coord.landings.prepare_revert(plan)
    question = f"Revert {prepared.landing.change_set} in {listed(prepared.landing.names)}?"
    return _carry_out(call, prepared, question, dry_run=dry_run, yes=yes, detach=detach, as_json=as_json)


def _carry_out(
    call: CliContext,
    prepared: PreparedLanding,
    question: str,
    *,
    dry_run: bool,
    yes: bool,
    detach: bool,
    as_json: bool,
) -> int:
    landings = call.coord.landings
    preview = landings.preview(prepared)
    if dry_run:
        if as_json:
            print_json(preview.model_dump())
        else:
            _print(preview)
        return REFUSED if preview.problems else 0
    if not yes:
        _show(preview)
    confirm(question, yes=yes)
    ready = landings.make_ready(prepared)

    def start() -> Run:
        run = landings.start(ready)
        what = f"{prepared.kind}s {prepared.landing.change_set}"
        repos = counted(len(preview.repos), "repository")
        click.echo(f"run {run.id} {what} in {repos}: {listed(prepared.landing.names)}", err=True)
        return run

    return see_through(call, start, detach=detach, as_json=as_json)


@aloud()
def _show(preview: LandingPreview) -> None:
    for one in preview.repos:
        line = f"  {one.repo}: {one.branch} would {one.would}, by {one.via}"
        click.echo(spelled(f"{line}: {one.problem}" if one.problem else line), err=True)


def _print(preview: LandingPreview) -> None:
    columns = ("repo", "branch", "base", "tip", "commits", "via", "method", "after", "would")
    print_table(columns, (_row(one) for one in preview.repos))
    for problem in preview.problems:
        click.echo(spelled(f"✗ {problem}"), err=True)
    if preview.in_place:
        click.echo(f"· worked in place, and land with no change set: {listed(preview.in_place)}", err=True)


def _row(one: RepoPreview) -> tuple[object, ...]:
    return (
        one.repo,
        one.branch,
        one.base[:12] or "?",
        one.tip[:12],
        "?" if one.commits is None else one.commits,
        one.via,
        one.method,
        ", ".join(one.after),
        one.would,
    )
