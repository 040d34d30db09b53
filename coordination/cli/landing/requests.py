"""`pr create`, `pr list`, `pr close`, `pr open`: the pull requests of change sets."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import click

from coordination.api import (
    CheckState,
    RequestAction,
    RequestOptions,
    RequestResult,
    RequestState,
    RequestView,
    ReviewState,
    texts,
)
from coordination.cli.completion import change_sets, plan_ids, repo_names
from coordination.cli.context import CliContext, confirm, despite_quiet, warn, yes_option
from coordination.cli.groups import command
from coordination.cli.landing.changes import some_repos
from coordination.cli.options.values import read_text
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import Cell, Column, plain, print_none, print_table
from coordination.errors import CoordinationError, NotFound, UsageError
from coordination.text import counted, quoted

LARGEST_BODY = 1 << 20
STYLES = {RequestState.MERGED: "green", RequestState.CLOSED: "red"}
MOST_OPENED = 20


@command("requests.create")
@click.argument("plan", shell_complete=plan_ids)
@some_repos
@click.option(
    "--draft/--ready",
    "draft",
    default=None,
    help=texts.DRAFT,
)
@click.option(
    "--reviewer",
    "reviewers",
    multiple=True,
    metavar="NAME",
    help=texts.REVIEWERS,
)
@click.option(
    "--team",
    "teams",
    multiple=True,
    metavar="NAME",
    help=texts.TEAMS,
)
@click.option("--label", "labels", multiple=True, metavar="NAME", help=texts.REQUEST_LABELS)
@click.option("--assignee", "assignees", multiple=True, metavar="NAME", help=texts.ASSIGNEES)
@click.option(
    "--body", "body_file", metavar="FILE", type=click.Path(allow_dash=True),
    help="Put the text of FILE (- for standard input) above coord's section (default: keep what is there).",
)  # fmt: skip
@click.option("--reopen", is_flag=True, help=texts.REOPEN)
@click.option("--dry-run", is_flag=True, help=texts.DRY_RUN)
@as_json_option
@click.pass_obj
def create_pr(
    call: CliContext,
    plan: str,
    repos: tuple[str, ...],
    draft: bool | None,
    reviewers: tuple[str, ...],
    teams: tuple[str, ...],
    labels: tuple[str, ...],
    assignees: tuple[str, ...],
    body_file: str | None,
    reopen: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Exit code 0: all requests are up to date. Otherwise that of the first failure; the others are done."""
    options = RequestOptions(
        repos=repos,
        draft=draft is True,
        ready=draft is False,
        reviewers=reviewers,
        teams=teams,
        labels=labels,
        assignees=assignees,
        body=_text(body_file),
        reopen=reopen,
    )
    done = call.coord.requests.create(plan, options, dry_run=dry_run)
    if as_json:
        print_json([one.model_dump(mode="json") for one in done])
    else:
        _print_results(done)
    return next((one.code for one in done if one.code), 0)


def _text(file: str | None) -> str | None:
    return None if file is None else read_text(file, LARGEST_BODY)


def _print_results(done: Sequence[RequestResult]) -> None:
    rows = [
        (
            one.repo,
            Cell(_outcome(one), "red" if one.action is RequestAction.FAILED else ""),
            f"{one.branch} to {one.base}",
            "yes" if one.pushed else "no",
            one.url,
        )
        for one in done
    ]
    print_table(["REPO", "PULL REQUEST", "BRANCH", "PUSH", "PAGE"], rows)
    for one in done:
        if one.warning:
            warn(f"{one.repo}: {one.warning}")
    _print_errors((one.repo, one.error) for one in done)


def _outcome(one: RequestResult) -> str:
    if one.action is RequestAction.LEFT:
        return f"closed by {one.closed_by}, left" if one.closed_by else "closed, left"
    return one.action.replace("_", " ")


@despite_quiet()
def _print_errors(failures: Iterable[tuple[str, str]]) -> None:
    for repo, error in failures:
        if error:
            click.echo(plain(f"error: {repo}: {error.replace(chr(10), chr(10) + '  ')}"), err=True)


@command("requests.list")
@click.argument("plan", required=False, shell_complete=change_sets)
@click.option("--failing", is_flag=True, help=texts.FAILING)
@click.option("--mine", is_flag=True, help=texts.MINE)
@output_options(RequestView)
@click.pass_obj
def list_prs(call: CliContext, plan: str | None, failing: bool, mine: bool, form: Form) -> int:
    """Without PLAN, list those of all plans. Exit code 0, or that of the first failure to ask a forge."""
    found = call.coord.requests.list(plan, failing=failing, mine=mine)
    form.records(found, lambda: _print(found, filtered=failing or mine))
    return next((one.code for one in found if one.code), 0)


def _print(found: Sequence[RequestView], *, filtered: bool) -> None:
    if not found:
        print_none(
            "no pull request matches" if filtered else "there is no pull request",
            "open them: coord pr create PLAN",
        )
        return
    names = ("PLAN", "REPO", "STATE", "CHECKS", "REVIEWS", "MERGE")
    columns = [*(Column(name=name) for name in names), Column(name="PAGE", flexible=True, folds=True)]
    print_table(columns, [_row(one) for one in found])
    _print_errors((one.repo, one.error) for one in found)


def _row(one: RequestView) -> Sequence[object]:
    state = one.state.value if one.state else "?"
    adopt = f"coord adopt {quoted(one.plan, one.repo)} --pr {one.number}"
    news = f", has commits of others: {adopt}" if one.has_others else ", outdated" if one.outdated else ""
    words = f"{state}{news}"
    return (
        one.plan,
        one.repo,
        Cell(words, STYLES.get(one.state, "") if one.state else "red"),
        _checks(one),
        _reviews(one),
        _merge(one),
        one.url,
    )


def _checks(one: RequestView) -> Cell:
    if one.state is None:
        return Cell("?", "red")
    if one.failing:
        return Cell(f"red: {', '.join(one.failing[:3])}", "red")
    waiting = sum(check.state is CheckState.PENDING for check in one.checks)
    if waiting:
        return Cell(f"{waiting} of {len(one.checks)} running", "yellow")
    return Cell(f"{len(one.checks)} green" if one.checks else "-", "green" if one.checks else "")


def _reviews(one: RequestView) -> Cell:
    if one.state is None:
        return Cell("?", "red")
    wanted = [review.author for review in one.reviews if review.state is ReviewState.CHANGES_REQUESTED]
    if wanted:
        return Cell(f"changes requested by {', '.join(wanted[:3])}", "red")
    approved = sum(review.state is ReviewState.APPROVED for review in one.reviews)
    return Cell(counted(approved, "approval") if approved else "-", "green" if approved else "")


def _merge(one: RequestView) -> str:
    if one.state is None:
        return "?"
    if one.mergeable is False:
        return "conflict"
    return one.blocked or ("possible" if one.mergeable else "-")


@command("requests.close")
@click.argument("plan", shell_complete=change_sets)
@yes_option
@as_json_option
@click.pass_obj
def close_pr(call: CliContext, plan: str, yes: bool, as_json: bool) -> int:
    """Exit code 0: no request is open any more. Otherwise the code of the first failure."""
    there = call.coord.requests.refs(plan)
    if there:
        confirm(f"Close {counted(len(there), 'pull request')} of {plan}?", yes=yes)
    found = call.coord.requests.close(plan)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
    else:
        for one in found:
            if one.state:
                click.echo(plain(f"{one.repo}: {one.url} is {one.state}"))
        _print_errors((one.repo, one.error) for one in found)
    return next((one.code for one in found if one.code), 0)


@command()
@click.argument("plan", required=False, shell_complete=change_sets)
@click.argument("repo", required=False, shell_complete=repo_names)
@click.pass_obj
def open_pr(call: CliContext, plan: str | None, repo: str | None) -> None:
    """Open the pull requests of a plan, or of all plans, in the browser. Without a terminal, only print their
    addresses.
    """
    found = [change.request for _, change in call.coord.requests.refs(plan, repo) if change.request]
    urls = [ref.url for ref in found if urlsplit(ref.url).scheme in ("https", "http")]
    if not urls:
        raise NotFound("there is no such pull request", f"open them: coord pr create {plan or 'PLAN'}")
    for url in urls:
        click.echo(plain(url))
    if not sys.stdout.isatty():
        return
    if len(urls) > MOST_OPENED:
        raise UsageError(f"{len(urls)} pages are too many for a browser", "name a plan or a repository")
    started = [webbrowser.open(url) for url in urls]
    if not all(started):
        raise CoordinationError("no browser could be started", "open the addresses above yourself")
