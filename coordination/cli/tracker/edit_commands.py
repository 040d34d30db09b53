"""The common shape of `create-*`, `update-*` and `delete-*`: options, questions, one operation, its result.

The result: the new id or the record on standard output, one line for people on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from coordination.api import texts
from coordination.cli.command import command
from coordination.cli.completion import Complete
from coordination.cli.context import CliContext, confirm, despite_quiet, on_a_terminal, yes_option
from coordination.cli.options.fields import Field
from coordination.cli.options.record_input import (
    Changes,
    ask_for_missing,
    changes_of,
    for_create,
    for_update,
    read_records,
    record_of,
)
from coordination.cli.options.values import choice
from coordination.cli.screen.output import as_json_option, print_json
from coordination.errors import UsageError
from coordination.models import UnlandedWork, presentable
from coordination.text import listed

if TYPE_CHECKING:
    from coordination.api import CoordinationManager, Edited, Removed
    from coordination.models import Dependency, Issue, Plan, Todo

Lookup = Callable[["CoordinationManager", str], "Issue | Todo | Plan | Dependency"]

from_file = click.option(
    "--from-file",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="Read one record or a list from YAML or JSON, with the file's field names; - reads stdin.",
)


def creates(noun: str, fields: Sequence[Field]) -> click.Command:
    """Return the command that creates records of a kind: issue, todo, plan or dependency."""

    @command(f"manager.create_{noun}")
    @for_create(fields)
    @from_file
    @as_json_option
    @click.pass_obj
    def create(call: CliContext, /, from_file: str | None, as_json: bool, **options: Any) -> None:
        """Its id is printed."""
        create_records(call, noun, fields, options, from_file, as_json=as_json)

    return create


def create_records(
    call: CliContext,
    noun: str,
    fields: Sequence[Field],
    options: Mapping[str, Any],
    from_file: str | None,
    *,
    as_json: bool,
) -> None:
    """Create the record of these options, or those of a file; print them."""
    record = record_of(fields, options)
    if from_file is None:
        ask_for_missing(record, fields)
        records, several = [record], False
    else:
        _refuse_both(record, fields)
        records, several = read_records(from_file)
    print_created(call.coord.manager.create_all(noun, records), several=several, as_json=as_json)


def updates(noun: str, argument: str, fields: Sequence[Field], complete: Complete) -> click.Command:
    """Return the command that changes fields of a record."""

    @command(f"manager.update_{noun}")
    @click.argument("name", metavar=argument, shell_complete=complete)
    @for_update(fields)
    @as_json_option
    @click.pass_obj
    def update(call: CliContext, /, name: str, as_json: bool, **options: Any) -> None:
        """An empty value clears a field, as in --assignee ''."""
        changes = changes_of(fields, options)
        refuse_nothing(changes, fields)
        operation: Callable[[str, Changes], Edited] = getattr(call.coord.manager, f"update_{noun}")
        print_updated(operation(name, changes), as_json=as_json)

    return update


def deletes(noun: str, argument: str, complete: Complete, lookup: Lookup) -> click.Command:
    """Return the command that deletes a record. `lookup` returns the record of an id, or raises NotFound."""

    @command(f"manager.delete_{noun}")
    @click.argument("name", metavar=argument, shell_complete=complete)
    @click.option("--cascade", is_flag=True, help="Delete also its parts, and every reference to it.")
    @yes_option
    @as_json_option
    @click.pass_obj
    def delete(
        call: CliContext, /, name: str, cascade: bool, yes: bool, as_json: bool, **options: str | None
    ) -> None:
        manager = call.coord.manager
        if options and not options["change_set"] and not yes and on_a_terminal():
            options = {"change_set": _ask_for_work(manager, lookup(manager, name).id, cascade=cascade)}
        if not yes:
            _confirm(manager, lookup(manager, name).id, cascade=cascade)
        fates = {option: UnlandedWork(word) for option, word in options.items() if word}
        operation: Callable[..., Removed] = getattr(manager, f"delete_{noun}")
        print_removed(operation(name, cascade=cascade, **fates), as_json=as_json)

    if noun not in ("plan", "todo"):
        return delete
    return choice("--change-set", UnlandedWork, texts.UNLANDED)(delete)


def refuse_nothing(changes: object, fields: Sequence[Field]) -> None:
    """Raise UsageError without changes."""
    if not changes:
        options = " ".join(field.option for field in fields if field.field != "id")
        raise UsageError("there is nothing to change", f"add an option: {options}")


def _refuse_both(record: object, fields: Sequence[Field]) -> None:
    if record:
        raise UsageError("--from-file sets all fields of the records", "leave the other options out")


@despite_quiet()
def _ask_for_work(manager: CoordinationManager, name: str, *, cascade: bool) -> str | None:
    """Ask what becomes of unlanded work, if there is any. If the deletion is refused, ask nothing."""
    if (manager.what_goes(name) and not cascade) or not (left := manager.unlanded_with(name)):
        return None
    question = f"The work of {listed(left)} has not landed. Discard it, or keep it?"
    answer: str = click.prompt(question, type=click.Choice([str(one) for one in UnlandedWork]), err=True)
    return answer


@despite_quiet()
def _confirm(manager: CoordinationManager, name: str, *, cascade: bool) -> None:
    """Show the other changes of a deletion, and ask. If other records name this one, ask nothing, because the
    deletion is refused.
    """
    preview = manager.what_goes(name)
    if preview and not cascade:
        return
    for deleted in preview.deleted:
        click.echo(f"  {deleted} is deleted, too", err=True)
    for reference in preview.released:
        click.echo(f"  {preview.id} is removed from {reference}", err=True)
    confirm(f"Delete {name} with all this?" if preview else f"Delete {name}?", yes=False)


def print_created(created: Sequence[Edited], *, several: bool, as_json: bool) -> None:
    """Print the ids, one a line, for a script; at a terminal the message names them."""
    if as_json:
        data = [_data(edited) for edited in created]
        print_json(data if several else data[0])
    elif several or not (sys.stdout.isatty() and sys.stderr.isatty()):
        for edited in created:
            click.echo(edited.record.id)
    ids = listed([edited.record.id for edited in created])
    _print(
        f"created {ids or 'nothing: the list is empty'}",
        _each(e.ready for e in created),
        _each(e.notes for e in created),
    )


def print_updated(edited: Edited, *, as_json: bool, what: str = "") -> None:
    """Print the result of an update. `what`: the message, where more happened than an update of fields."""
    if as_json:
        print_json(_data(edited))
    name = edited.record.id
    fields = ", ".join(edited.changed)
    text = what or f"updated {name}: {fields}"
    _print(text if edited.changed else f"{name} is unchanged", edited.ready, edited.notes)


def print_removed(removed: Removed, *, as_json: bool) -> None:
    if as_json:
        print_json(removed.model_copy(update={"record": presentable(removed.record)}))
    text = f"deleted {removed.record.id}"
    text += f" with {listed(removed.also)}" if removed.also else ""
    text += f"; it is removed from {listed(removed.released)}" if removed.released else ""
    _print(text, removed.ready, removed.notes)


def _data(edited: Edited) -> dict[str, Any]:
    return {**dict(presentable(edited.record)), "ready": edited.ready, "notes": edited.notes}


def _print(text: str, ready: Sequence[str], notes: Iterable[str]) -> None:
    click.echo(f"{text}; now ready: {', '.join(ready)}" if ready else text, err=True)
    for note in notes:
        click.echo(f"  {note}", err=True)


def _each(lists: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(item for items in lists for item in items))
