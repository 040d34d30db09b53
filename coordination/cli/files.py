"""The file: written, checked, and looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from rich_click import command

from coordination.cli.choices import choice
from coordination.cli.context import Call
from coordination.cli.output import print_facts, print_json
from coordination.cli.tables import print_table
from coordination.errors import CoordinationError, InvalidFile, PlanRefused, Problem
from coordination.models import Level, PlanStatus, TodoStatus

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
of_repo = click.option("--repo", metavar="NAME", help="Only of this repository.")


@command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Write DIR/ecosystem.yaml (here if not given) from the git repositories in DIR, with a plan to begin with."""
    from coordination.ecosystem.document import FILE_NAME
    from coordination.ecosystem.first_file import first_file, write_first
    from coordination.ecosystem.scan import find_repos
    from coordination.planner.selection import counted

    repos, path = find_repos(folder), folder / FILE_NAME
    write_first(path, first_file(repos))
    click.echo(
        f"wrote {path} with {counted(len(repos), 'repository')}\n  next: edit it, then: coord validate", err=True
    )


@command()
@as_json
@click.pass_obj
def validate(call: Call, as_json: bool) -> None:
    """Check the file. Exit code 2 when it cannot be used; what is only loose in it is a warning."""
    if as_json:
        _validate_as_json(call)
        return
    document = call.document
    warnings = [*document.warnings, *_refused_plans(call)]
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    declared = document.ecosystem.coordination
    counts = {"repos": document.ecosystem.repos, "plans": declared.plans, "todos": declared.todos}
    words = ", ".join(f"{name} {len(found)}" for name, found in {**counts, "warnings": warnings}.items())
    click.echo(f"{document.path} is valid: {words}")


def _refused_plans(call: Call) -> list[Problem]:
    """What a sweep of each plan would refuse: a cycle, an unknown blocker, an undeclared repository."""
    from coordination.planner.graph import build

    found = []
    for plan in call.document.ecosystem.coordination.plans:
        if plan.status not in (PlanStatus.CANCELLED, PlanStatus.ON_HOLD):
            try:
                build(call.document.ecosystem, plan.id)
            except PlanRefused as refused:
                found.append(Problem(file=str(call.path), line=0, where=plan.id, message=refused.message))
    return found


def _validate_as_json(call: Call) -> None:
    problems: Sequence[Any] = ()
    warnings: Sequence[Any] = ()
    try:
        warnings = [*call.document.warnings, *_refused_plans(call)]
    except InvalidFile as error:
        problems = error.problems
    print_json(
        {
            "file": str(call.path),
            "valid": not problems,
            "problems": [asdict(problem) for problem in problems],
            "warnings": [asdict(warning) for warning in warnings],
        }
    )
    if problems:
        click.get_current_context().exit(InvalidFile.exit_code)


@command()
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it to a file.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of ecosystem.yaml, so that editors complete and check it while you type."""
    import json

    from coordination.ecosystem.schema import json_schema

    if output is None:
        print_json(json_schema())
        return
    try:
        output.write_text(json.dumps(json_schema(), indent=2) + "\n")
    except OSError as error:
        raise CoordinationError(f"{output} cannot be written: {error.strerror}", "name another file") from error
    click.echo(
        f"wrote {output}\n  first line of ecosystem.yaml, for editors: # yaml-language-server: $schema={output}",
        err=True,
    )


@command()
@click.option("--tag", metavar="TAG", help="Only those with this tag.")
@click.option("--role", metavar="ROLE", help="Only those with this role.")
@as_json
@click.pass_obj
def list_repos(call: Call, tag: str | None, role: str | None, as_json: bool) -> None:
    """List the repositories that the file declares."""
    repos = call.manager.list_repos(tag=tag, role=role)
    if as_json:
        print_json(_data(repos))
    else:
        rows = [(r.name, r.path or r.url, r.branch, r.role, " ".join(r.tags)) for r in repos]
        print_table(("NAME", "PATH", "BRANCH", "ROLE", "TAGS"), rows)


@command()
@choice("--status", PlanStatus, "Only those that are")
@of_repo
@as_json
@click.pass_obj
def list_plans(call: Call, status: str | None, repo: str | None, as_json: bool) -> None:
    """List the plans that the file declares."""
    plans = call.manager.list_plans(status=PlanStatus(status) if status else None, repo=repo)
    if as_json:
        print_json(_data(plans))
    else:
        rows = [(p.id, p.status, len(call.manager.plan_todos(p.id)), p.title) for p in plans]
        print_table(("PLAN", "STATUS", "TODOS", "TITLE"), rows)


@command()
@click.argument("plan")
@as_json
@click.pass_obj
def show_plan(call: Call, plan: str, as_json: bool) -> None:
    """Show one plan with its milestones and todos."""
    record, todos = call.manager.get_plan(plan), call.manager.plan_todos(plan)
    if as_json:
        print_json({**record.model_dump(mode="json"), "todos": _data(todos)})
    else:
        print_facts(record.model_dump(mode="json"))
        click.echo()
        _print_todos(todos)


@command()
@click.option("--plan", metavar="PLAN", help="Only of this plan.")
@of_repo
@choice("--status", TodoStatus, "Only those that are")
@choice("--priority", Level, "Only of this priority:")
@click.option("--assignee", metavar="NAME", help="Only what this person or agent is to do.")
@click.option("--label", metavar="LABEL", help="Only those with this label.")
@as_json
@click.pass_obj
def list_todos(call: Call, /, as_json: bool, status: str | None, priority: str | None, **filters: str | None) -> None:
    """List the todos that the file declares; filters add up."""
    todos = call.manager.list_todos(
        status=TodoStatus(status) if status else None, priority=Level(priority) if priority else None, **filters
    )
    if as_json:
        print_json(_data(todos))
    else:
        _print_todos(todos)


@command()
@click.argument("todo")
@as_json
@click.pass_obj
def show_todo(call: Call, todo: str, as_json: bool) -> None:
    """Show one todo."""
    data = call.manager.get_todo(todo).model_dump(mode="json")
    if as_json:
        print_json(data)
    else:
        print_facts(data)


def _print_todos(todos: Sequence[Any]) -> None:
    print_table(
        ("TODO", "STATUS", "PRIORITY", "REPO", "TASK"), [(t.id, t.status, t.priority, t.repo, t.task) for t in todos]
    )


def _data(records: Sequence[BaseModel]) -> list[dict[str, Any]]:
    return [record.model_dump(mode="json") for record in records]
