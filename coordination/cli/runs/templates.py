"""`create-plan`, also from a template, `list-templates` and `show-template`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
import yaml
from rich_click import command

from coordination.cli.completion import roles as role_names
from coordination.cli.completion import tags as tag_names
from coordination.cli.context import CliContext
from coordination.cli.options.fields import PLAN
from coordination.cli.options.record_input import for_create, record_of
from coordination.cli.runs.campaign import conclude_generated
from coordination.cli.screen.output import as_json_option, print_json
from coordination.cli.screen.tables import print_table
from coordination.cli.tracker.edit_commands import create_records, from_file
from coordination.errors import UsageError
from coordination.terminal import spelled

if TYPE_CHECKING:
    from coordination.api import CoordinationManager, Edited
    from coordination.models import Parameter

OF_TEMPLATES = ("--set", "--tag", "--role", "--all", "--dry-run", "--sweep")


@command()
@for_create(PLAN)
@from_file
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
@as_json_option
@click.pass_obj
def create_plan(
    call: CliContext,
    /,
    from_file: str | None,
    template: str | None,
    given: tuple[str, ...],
    tags: tuple[str, ...],
    roles: tuple[str, ...],
    all_repos: bool,
    dry_run: bool,
    sweep: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Create a plan; print its id. Todos join it with: coord create-todo --plan.

    With --from-template it gets the todos of the template for each repository of --repos, --tag, --role or
    --all; other options replace fields of the template's plan.
    """  # fmt: skip
    if template is None:
        used = (given, tags, roles, all_repos, dry_run, sweep)
        if wrong := [name for name, value in zip(OF_TEMPLATES, used, strict=True) if value]:
            raise UsageError(
                f"{wrong[0]} belongs to --from-template", "name a template: coord list-templates"
            )
        create_records(call, _create, PLAN, options, from_file, as_json=as_json)
        return 0
    if from_file is not None:
        raise UsageError("--from-template and --from-file exclude each other", "use one of them")
    fields = record_of(PLAN, options)
    made = call.coord.generators.create_plan_from_template(
        template,
        dict(_assignment(text) for text in given),
        repos=fields.pop("repos", ()),
        tags=tags,
        roles=roles,
        all_repos=all_repos,
        fields=fields,
        dry_run=dry_run,
    )
    return conclude_generated(call, made, sweep=sweep, as_json=as_json)


def _create(manager: CoordinationManager, records: Sequence[Mapping[str, Any]]) -> Sequence[Edited]:
    return manager.create_all("plan", records)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--set {text}: there is no value", "write it as --set PARAMETER=VALUE")
    return name.strip(), value


@command()
@as_json_option
@click.pass_obj
def list_templates(call: CliContext, as_json: bool) -> None:
    """List the templates of plans: those of the file, and those that come with coord."""
    found = call.coord.generators.templates()
    if as_json:
        print_json([one.model_dump() for one in found])
        return
    rows = ((one.name, ", ".join(map(_parameter, one.parameters)), one.description) for one in found)
    print_table(("template", "parameters", "description"), rows)


def _parameter(parameter: Parameter) -> str:
    return parameter.name if parameter.is_required else f"[{parameter.name}]"


@command()
@click.argument("template")
@as_json_option
@click.pass_obj
def show_template(call: CliContext, template: str, as_json: bool) -> None:
    """Print TEMPLATE as YAML: copy it to coordination.templates of the file to change it."""
    found = call.coord.generators.template(template)
    data = found.model_dump(mode="json", exclude_unset=True)
    if as_json:
        print_json(found.model_dump())
        return
    click.echo(spelled(yaml.safe_dump([data], sort_keys=False, allow_unicode=True, width=100)), nl=False)
