"""`campaign`, templates, `exec`: one plan, or one command, for many repositories."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
import yaml

from coordination.api import RunView, Selectors, TodoState
from coordination.cli.context import CliContext
from coordination.cli.following.follow import start_and_follow, write_back
from coordination.cli.following.summary import NOTHING, format_work
from coordination.cli.runs.sweep import run_prepared
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_table
from coordination.declared import data_of
from coordination.models import AgentAction, QaAction, ShellAction
from coordination.terminal import spelled
from coordination.text import counted, listed, shortened

if TYPE_CHECKING:
    from coordination.api import GeneratedPlan
    from coordination.api.generators import RepoOutput
    from coordination.api.run import Run
    from coordination.models import Template, Todo

LONGEST_COMMAND = 60


@as_json_option
def campaign(call: CliContext, values: dict[str, Any], *, as_json: bool) -> int:
    sweep = values.pop("sweep", False)
    made = call.coord.generators.campaign(**values)
    return conclude_generated(call, made, sweep=sweep, as_json=as_json)


def conclude_generated(call: CliContext, made: GeneratedPlan, *, sweep: bool, as_json: bool) -> int:
    """Print a generated plan, and run it if that is wanted; return the exit code."""
    then = sweep and made.written
    if as_json and not then:
        print_json(data_of(made))
    elif not made.written:
        print_plan(made)
    elif not then and not (sys.stdout.isatty() and sys.stderr.isatty()):
        click.echo(made.plan.id)
    _tell(made, then=then)
    if not then:
        return 0
    prepared = call.coord.runs.prepare_sweep(made.plan.id)
    return run_prepared(call, prepared, as_json=as_json, extra={"generated": data_of(made)})


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


def print_plan(made: GeneratedPlan) -> None:
    """Print the todos of a generated plan."""
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
    if action is None or isinstance(action, AgentAction):
        return f"agent: {' '.join(((action and action.prompt) or todo.task).split())}"
    return action.type


def print_template(template: Template) -> None:
    data = template.model_dump(mode="json", exclude_unset=True)
    click.echo(spelled(yaml.safe_dump([data], sort_keys=False, allow_unicode=True, width=100)), nl=False)


@as_json_option
def exec_(call: CliContext, values: dict[str, Any], *, as_json: bool) -> int:
    """The output is printed by repository.

    Exit code 0: it succeeded everywhere. 3: it failed somewhere. 7: a repository has no worker.
    """
    commands = call.coord.commands
    jobs, timeout = values.pop("jobs", None), values.pop("timeout", None)
    words, all_repos = values.pop("command"), values.pop("all_repos", False)
    prepared = commands.prepare(words, Selectors(**values), all_repos=all_repos, jobs=jobs, timeout=timeout)
    ready = commands.make_ready(prepared)

    def start() -> Run:
        run = commands.start(ready)
        graph = ready.graph
        work = format_work(graph.size, graph.repos, call.coord.runs.workplaces(graph.repos, jobs))
        click.echo(f"run {run.id}: {work}", err=True)
        for one in call.coord.runs.left_out(ready):
            click.echo(spelled(str(one)), err=True)
        return run

    return start_and_follow(
        call, start, detach=False, as_json=as_json, ending=_print_outputs, shows_output=False
    )


def _print_outputs(
    call: CliContext,
    run: Run,
    view: RunView,
    *,
    as_json: bool,
    extra: Mapping[str, Any] = NOTHING,
    **_: object,
) -> None:
    """Print the output of each repository below a line that names it."""
    write_back(call, run)
    outputs = call.coord.commands.outputs(run, view)
    if as_json:
        print_json({**view.model_dump(), **extra, "outputs": [one.model_dump() for one in outputs]})
        return
    for one in outputs:
        click.echo(spelled(_heading(one)))
        if one.output:
            click.echo(spelled(one.output), nl=not one.output.endswith("\n"))
        for line in (one.error or "").splitlines()[1:]:
            click.echo(spelled(line))


def _heading(one: RepoOutput) -> str:
    ended = "" if one.duration_s is None else f" in {one.duration_s:.1f} s"
    why = "" if one.state is TodoState.SUCCEEDED else f": {(one.error or '').partition(chr(10))[0]}"
    return f"── {one.repo}: {one.state}{ended}{why}"
