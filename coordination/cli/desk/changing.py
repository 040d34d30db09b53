"""The shape of `create-*`, `update-*` and `delete-*`: options, questions, one deed, and a line of what has happened.

A deed is a function that gets the manager and what people said; its name and its words are the command's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from coordination.cli.completing import Complete
from coordination.cli.context import CliContext
from coordination.cli.desk.happened import say_created, say_removed, say_updated
from coordination.cli.options.fields import Field
from coordination.cli.options.filling import Changes, changes_of, for_create, for_update, read_records, record_of
from coordination.cli.options.prompts import ask_for_missing, on_a_terminal
from coordination.cli.screen.shown import as_json_option
from coordination.errors import UsageError

if TYPE_CHECKING:
    from coordination.tracker.manager import CoordinationManager
    from coordination.tracker.records import DeletePreview, Edited, Removed

Create = Callable[["CoordinationManager", Sequence[dict[str, Any]]], "Sequence[Edited]"]
Update = Callable[["CoordinationManager", str, Changes], "Edited"]
Delete = Callable[["CoordinationManager", str, bool], "Removed"]

from_file = click.option(
    "--from-file",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="One record or a list, YAML or JSON, by the file's field names; - reads stdin.",
)


def creates(fields: Sequence[Field]) -> Callable[[Create], click.Command]:
    def decorated(deed: Create) -> click.Command:
        @command()
        @for_create(fields)
        @from_file
        @as_json_option
        @click.pass_obj
        @wraps(deed)
        def create(call: CliContext, /, from_file: str | None, as_json: bool, **options: Any) -> None:
            record = record_of(fields, options)
            if from_file is None:
                ask_for_missing(record, fields)
                records, several = [record], False
            else:
                _refuse_both(record, fields)
                records, several = read_records(from_file)
            say_created(deed(call.manager, records), several=several, as_json=as_json)

        return create

    return decorated


def updates(argument: str, fields: Sequence[Field], complete: Complete) -> Callable[[Update], click.Command]:
    def decorated(deed: Update) -> click.Command:
        @command()
        @click.argument("name", metavar=argument, shell_complete=complete)
        @for_update(fields)
        @as_json_option
        @click.pass_obj
        @wraps(deed)
        def update(call: CliContext, /, name: str, as_json: bool, **options: Any) -> None:
            changes = changes_of(fields, options)
            refuse_nothing(changes, fields)
            say_updated(deed(call.manager, name, changes), as_json=as_json)

        return update

    return decorated


def deletes(argument: str, complete: Complete) -> Callable[[Delete], click.Command]:
    def decorated(deed: Delete) -> click.Command:
        @command()
        @click.argument("name", metavar=argument, shell_complete=complete)
        @click.option("--cascade", is_flag=True, help="Also what cannot stay without it, and every mention of it.")
        @click.option("--yes", is_flag=True, help="With --cascade: without a question.")
        @as_json_option
        @click.pass_obj
        @wraps(deed)
        def delete(call: CliContext, /, name: str, cascade: bool, yes: bool, as_json: bool) -> None:
            if cascade and not yes:
                _confirm(call.manager.what_goes(name))
            say_removed(deed(call.manager, name, cascade), as_json=as_json)

        return delete

    return decorated


def refuse_nothing(changes: object, fields: Sequence[Field]) -> None:
    if not changes:
        options = " ".join(field.option for field in fields if field.field != "id")
        raise UsageError("there is nothing to change", f"say what: {options}")


def _refuse_both(record: object, fields: Sequence[Field]) -> None:
    if record:
        raise UsageError("--from-file says all that is in the records", "leave the other options out")


def _confirm(goes: DeletePreview) -> None:
    """Whoever deletes more than was named has seen what. Raises UsageError where nobody can be asked."""
    if not goes:
        return
    for name in goes.deleted:
        click.echo(f"  {name} is deleted, too", err=True)
    for reference in goes.released:
        click.echo(f"  {goes.id} is taken out of {reference}", err=True)
    if not on_a_terminal():
        raise UsageError(f"all this goes with {goes.id}, and nobody was asked", "if it may: --cascade --yes")
    if not click.confirm(f"delete {goes.id} with all this?", err=True):
        click.echo("nothing was deleted", err=True)
        click.get_current_context().exit(1)
