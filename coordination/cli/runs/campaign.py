"""`campaign`: a plan that changes and checks many repositories; plans as generators make them, on screen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.cli.context import CliContext
from coordination.cli.options.filters import selects_repos
from coordination.cli.options.values import choice
from coordination.cli.runs.sweep import carry_out
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_table
from coordination.models import OnFailure, QaAction, RepoOrder, ShellAction, presentable
from coordination.terminal import spelled
from coordination.text import counted, listed, shortened

if TYPE_CHECKING:
    from coordination.api import GeneratedPlan, Selectors
    from coordination.models import Todo

LONGEST_COMMAND = 60


@command()
@click.argument("title")
@selects_repos
@click.option("--run", metavar="COMMAND", help="Change each repository by this command for sh.")
@click.option("--prompt", metavar="TEXT", help="Change each repository by an agent with this prompt.")
@click.option(
    "--check",
    metavar="COMMAND",
    help="Check each change by this command for sh, which must change no file (default: their `qa`).",
)
@choice("--order", RepoOrder, "Order of the repositories (default: deps, as they depend on each other):")
@choice("--on-failure", OnFailure, "Default: continue.")
@click.option("--dry-run", is_flag=True, help="Print the plan and its todos; write nothing.")
@click.option("--sweep", is_flag=True, help="Run the plan at once.")
@as_json_option
@click.pass_obj
def campaign(
    call: CliContext,
    title: str,
    wanted: Selectors,
    all_repos: bool,
    run: str | None,
    prompt: str | None,
    check: str | None,
    order: str | None,
    on_failure: str | None,
    dry_run: bool,
    sweep: bool,
    as_json: bool,
) -> int:
    """Create the plan TITLE with a change and a check for each selected repository.

    The todos are PLAN-change-REPO and PLAN-check-REPO. A repository's change waits for the checks of the
    repositories that it depends on (coord list-deps). Commands get the variables `repo`, `plan` and `title`
    where they name them. Selectors of one kind are a union, different kinds intersect.
    """
    made = call.coord.generators.campaign(
        title,
        repos=wanted.repos,
        tags=wanted.tags,
        roles=wanted.roles,
        all_repos=all_repos,
        run=run,
        prompt=prompt,
        check=check,
        order=RepoOrder(order) if order else RepoOrder.DEPS,
        on_failure=OnFailure(on_failure) if on_failure else OnFailure.CONTINUE,
        dry_run=dry_run,
    )
    return conclude_generated(call, made, sweep=sweep, as_json=as_json)


def conclude_generated(call: CliContext, made: GeneratedPlan, *, sweep: bool, as_json: bool) -> int:
    """Print a generated plan, and run it if that is wanted; return the exit code."""
    then = sweep and made.written
    if as_json and not then:
        print_json(_data(made))
    elif not made.written:
        _print_preview(made)
    elif not then and not (sys.stdout.isatty() and sys.stderr.isatty()):
        click.echo(made.plan.id)
    _tell(made, then=then)
    if not then:
        return 0
    prepared = call.coord.runs.prepare_sweep(made.plan.id)
    return carry_out(call, prepared, as_json=as_json, beside={"generated": _data(made)})


def _data(made: GeneratedPlan) -> GeneratedPlan:
    return made.model_copy(update={"todos": tuple(map(presentable, made.todos))})


def _tell(made: GeneratedPlan, *, then: bool) -> None:
    name = made.plan.id
    if made.unchecked:
        some = made.unchecked
        words = f"{counted(len(some), 'repository')} {'declare' if some[1:] else 'declares'} no check"
        click.echo(f"{words}: {listed(some)}; add `qa` in the file, or give --check", err=True)
    what = f"{name} with {counted(len(made.todos), 'todo')} in {counted(len(made.plan.repos), 'repository')}"
    if not made.written:
        click.echo(f"would create {what}; nothing was written", err=True)
    elif then:
        click.echo(f"created {what}", err=True)
    else:
        click.echo(f"created {what}; run it: coord sweep {name}", err=True)


def _print_preview(made: GeneratedPlan) -> None:
    click.echo(spelled(f"{made.plan.id}  {made.plan.title}"))
    print_table(("todo", "repo", "after", "action"), (_row(todo) for todo in made.todos))


def _row(todo: Todo) -> tuple[object, ...]:
    return (todo.id, todo.repo, ", ".join(todo.blocked_by), shortened(_action(todo), LONGEST_COMMAND))


def _action(todo: Todo) -> str:
    action = todo.action
    if isinstance(action, ShellAction):
        return action.run if isinstance(action.run, str) else " ".join(action.run)
    if isinstance(action, QaAction) and action.run is None:
        return f"the check {action.check}" if action.check else "its check"
    return action.type if action else "agent"
