"""`campaign`, `plan create`, templates, `exec`: one plan, or one command, for many repositories."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
import yaml

from coordination.api import RunView, Selectors, TodoState
from coordination.api.fields import PlanFields
from coordination.cli.completion import roles as role_names
from coordination.cli.completion import tags as tag_names
from coordination.cli.context import CliContext
from coordination.cli.following.follow import start_and_follow, write_back
from coordination.cli.following.summary import NOTHING, format_work
from coordination.cli.runs.sweep import run_prepared
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_table
from coordination.cli.tracker import edits
from coordination.cli.tracker.edits import create_records, fields_of, values_of
from coordination.declared import Operation, data_of
from coordination.errors import UsageError
from coordination.models import QaAction, ShellAction
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
        _print_preview(made)
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


OF_TEMPLATES = {
    "--set": "given",
    "--tag": "tags",
    "--role": "roles",
    "--all": "all_repos",
    "--dry-run": "dry_run",
    "--sweep": "sweep",
}
"""Option that belongs to --from-template → its parameter."""


@click.option("--from-template", "template", metavar="NAME", help="Create plan and todos from a template.")
@click.option(
    "--set", "given", multiple=True, metavar="PARAMETER=VALUE", help="Set a parameter of the template."
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    shell_complete=tag_names,
    help="With a template: select the repositories with this tag.",
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE",
    shell_complete=role_names,
    help="With a template: select the repositories with this role.",
)
@click.option("--all", "all_repos", is_flag=True, help="With a template: select all repositories.")
@click.option("--dry-run", is_flag=True, help="With a template: print plan and todos; write nothing.")
@click.option("--sweep", is_flag=True, help="With a template: run the plan at once.")
def create_plan(
    call: CliContext,
    declared: Operation,
    options: Mapping[str, Any],
    *,
    from_file: str | None,
    as_json: bool,
) -> int:
    """Its id is printed. Todos join it with: coord todo create --plan.

    With --from-template it gets the todos of the template for each repository of --repos, --tag, --role or
    --all; other options replace fields of the template's plan.
    """
    template = options["template"]
    if template is None:
        if wrong := [flag for flag, name in OF_TEMPLATES.items() if options[name]]:
            raise UsageError(f"{wrong[0]} belongs to --from-template", "name a template: coord template list")
        create_records(call, declared, options, from_file=from_file, as_json=as_json)
        return 0
    if from_file is not None:
        raise UsageError("--from-template and --from-file exclude each other", "use one of them")
    fields = PlanFields(**values_of(fields_of(declared), options)).given()
    made = call.coord.generators.create_plan_from_template(
        template,
        dict(_assignment(text) for text in options["given"]),
        repos=fields.pop("repos", ()),
        tags=options["tags"],
        roles=options["roles"],
        all_repos=options["all_repos"],
        fields=fields,
        dry_run=options["dry_run"],
    )
    return conclude_generated(call, made, sweep=options["sweep"], as_json=as_json)


def create(declared: Operation) -> click.Command:
    """Return the command that creates plans, also from templates."""
    return edits.create(declared, create_plan)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--set {text}: there is no value", "write it as --set PARAMETER=VALUE")
    return name.strip(), value


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

    return start_and_follow(call, start, detach=False, as_json=as_json, ending=_print_outputs)


def _print_outputs(
    call: CliContext, run: Run, view: RunView, *, as_json: bool, extra: Mapping[str, Any] = NOTHING
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
