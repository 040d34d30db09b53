"""Commands that create, change and delete records, made from the fields that their operations declare.

The result: the new id or the record on standard output, one line for people on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from coordination.api.texts import part_of
from coordination.cli.command import made_by
from coordination.cli.context import CliContext, confirm, despite_quiet, on_a_terminal, yes_option
from coordination.cli.operation_command import built_of, parameter
from coordination.cli.options.record_input import (
    Given,
    ask_for_missing,
    options_to_change,
    options_to_create,
    read_records,
)
from coordination.cli.screen.output import as_json_option, print_json
from coordination.declared import Operation, data_of
from coordination.errors import UsageError
from coordination.models import UnlandedWork
from coordination.text import listed

if TYPE_CHECKING:
    from coordination.api import CoordinationManager, Edited, Removed

FROM_FILE = click.option(
    "--from-file",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="Read one record or a list from YAML or JSON, with the file's field names; - reads stdin.",
)
KINDS = {"dep": "dependency"}
"""Noun → the kind of its records, where that is another word."""


def kind_of(operation: Operation) -> str:
    return KINDS.get(operation.noun, operation.noun)


def create(operation: Operation, function: Callable[..., int | None] | None = None) -> click.Command:
    """Return the command that creates records. `function` takes its place, with its own options, and calls
    `create_records`.
    """
    fields = fields_of(operation)
    made = [*options_to_create(fields), made_by(FROM_FILE), *own_options(function), made_by(as_json_option)]

    def call(obj: CliContext, *, from_file: str | None, as_json: bool, **options: Any) -> int | None:
        step = function or create_records
        return step(obj, operation, options, from_file=from_file, as_json=as_json)

    return built_of(operation, made, call, (function and function.__doc__) or "Its id is printed.")


def fields_of(operation: Operation) -> list[Given]:
    """Return the fields that an operation sets, with their options."""
    return [Given(one) for one in operation.parameters if one.record]


def own_options(function: Callable[..., Any] | None) -> list[click.Parameter]:
    return list(reversed(getattr(function, "__click_params__", ())))


def create_records(
    call: CliContext,
    operation: Operation,
    options: Mapping[str, Any],
    *,
    from_file: str | None,
    as_json: bool,
) -> None:
    """Create the record of these options, or those of a file; print them."""
    fields = fields_of(operation)
    values = values_of(fields, options)
    if from_file is None:
        ask_for_missing(values, fields)
        print_created([operation.call(part_of(call.coord, operation), values)], as_json=as_json)
        return
    if values:
        raise UsageError("--from-file sets all fields of the records", "leave the other options out")
    records, several = read_records(from_file)
    created = call.coord.manager.create_all(kind_of(operation), records)
    print_created(created, several=several, as_json=as_json)


def values_of(fields: Iterable[Given], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the fields that options set; an empty value sets none."""
    read = {field.name: field.read(options[field.name]) for field in _used(fields, options)}
    return {name: value for name, value in read.items() if value not in (None, ())}


def _used(fields: Iterable[Given], options: Mapping[str, Any]) -> list[Given]:
    """Return the fields that options set. Raises UsageError where two options set one field of the record."""
    by: dict[str, Given] = {}
    for field in fields:
        if field.is_given(options):
            other = by.setdefault(field.option.sets or field.name, field)
            if other is not field:
                raise UsageError(f"{other.flag} and {field.flag} exclude each other", "use one of them")
    return list(by.values())


def update(operation: Operation, function: Callable[..., None] | None = None) -> click.Command:
    """Return the command that changes fields of a record. `function` takes the place of the change, with its
    own options.
    """
    target, fields = operation.parameters[0], fields_of(operation)
    made = [
        parameter(target),
        *options_to_change(fields),
        *own_options(function),
        made_by(as_json_option),
    ]

    def call(obj: CliContext, *, as_json: bool, **options: Any) -> None:
        name = options.pop(target.name)
        changes = changes_in(fields, options)
        if function is not None:
            function(obj, operation, name, changes, options, as_json=as_json)
            return
        refuse_nothing(changes, fields)
        print_updated(change(obj, operation, name, changes), as_json=as_json)

    help_ = (function and function.__doc__) or "An empty value clears a field, as in --assignee ''."
    return built_of(operation, made, call, help_)


def change(
    call: CliContext, operation: Operation, name: str, changes: Mapping[str, Any], **more: Any
) -> Edited:
    """Apply changes to a record; `more`: further arguments of the operation."""
    lists = {verb: changes[verb] for verb in ("added", "removed") if verb in changes}
    values = {
        operation.parameters[0].name: name,
        "clear": changes.get("clear", ()),
        **changes.get("values", {}),
    }
    part = part_of(call.coord, operation)
    edited: Edited = operation.function(part, **operation.arguments(values), **lists, **more)
    return edited


def changes_in(fields: Sequence[Given], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that options say: `values` of fields, names to `clear`, items `added` and `removed`.
    Nothing is an empty mapping. Raises UsageError for a list that is replaced and changed at once.
    """
    used = _used(fields, options)
    read = {field.name: field.read(options[field.name]) for field in used}
    changes: dict[str, Any] = {
        "values": {name: value for name, value in read.items() if value not in (None, ())},
        "clear": tuple(name for name, value in read.items() if value in (None, ())),
        "added": {f.name: f.read(texts, "add") for f in fields if (texts := f.texts(options, "add"))},
        "removed": {f.name: texts for f in fields if (texts := f.texts(options, "remove"))},
    }
    for verb in ("add", "remove"):
        for field in fields:
            if field in used and field.texts(options, verb):
                hint = f"{field.flag} replaces the list, {field.spelt(verb)} changes it"
                raise UsageError(f"{field.flag} and {field.spelt(verb)} exclude each other", hint)
    return changes if any(changes.values()) else {}


def refuse_nothing(changes: object, fields: Sequence[Given]) -> None:
    """Raise UsageError without changes."""
    if not changes:
        options = " ".join(field.flag for field in fields)
        raise UsageError("there is nothing to change", f"add an option: {options}")


def delete(operation: Operation) -> click.Command:
    """Return the command that deletes a record."""
    made = [*map(parameter, operation.parameters), made_by(yes_option), made_by(as_json_option)]
    target, kind = operation.parameters[0].name, kind_of(operation)

    def call(obj: CliContext, *, yes: bool, as_json: bool, **given: Any) -> None:
        manager, name, cascade = obj.coord.manager, given[target], given["cascade"]
        if not yes:
            name = getattr(manager, f"get_{kind}")(name).id  # NotFound comes before any question
            if "change_set" in given and not given["change_set"] and on_a_terminal():
                given["change_set"] = _ask_for_work(manager, name, cascade=cascade)
            _confirm(manager, name, cascade=cascade)
        if given.get("change_set"):
            given["change_set"] = UnlandedWork(given["change_set"])
        print_removed(operation.call(part_of(obj.coord, operation), given), as_json=as_json)

    return built_of(operation, made, call)


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


def print_created(created: Sequence[Edited], *, several: bool = False, as_json: bool) -> None:
    """Print the ids, one a line, for a script; at a terminal the message names them."""
    if as_json:
        data = [data_of(edited) for edited in created]
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


def print_updated(edited: Edited, *, as_json: bool) -> None:
    if as_json:
        print_json(data_of(edited))
    name, fields = edited.record.id, ", ".join(edited.changed)
    _print(
        f"updated {name}: {fields}" if edited.changed else f"{name} is unchanged", edited.ready, edited.notes
    )


@as_json_option
def close(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    edited = call.coord.issue.close(**values)
    if as_json:
        print_json(data_of(edited))
    _print_finished(edited)


@as_json_option
def complete(call: CliContext, values: Mapping[str, Any], *, as_json: bool) -> None:
    done = call.coord.todo.complete(**values)
    if as_json:
        print_json(data_of(done))
    if done.edited is not None:
        _print_finished(done.edited)
    if done.run_id is not None:
        click.echo(f"{done.todo} is done; run {done.run_id} continues", err=True)


def _print_finished(edited: Edited) -> None:
    _print(f"{edited.record.status} {edited.record.id}", edited.ready, edited.notes)


def print_removed(removed: Removed, *, as_json: bool) -> None:
    if as_json:
        print_json(data_of(removed))
    text = f"deleted {removed.record.id}"
    text += f" with {listed(removed.also)}" if removed.also else ""
    text += f"; it is removed from {listed(removed.released)}" if removed.released else ""
    _print(text, removed.ready, removed.notes)


def _print(text: str, ready: Sequence[str], notes: Iterable[str]) -> None:
    click.echo(f"{text}; now ready: {', '.join(ready)}" if ready else text, err=True)
    for note in notes:
        click.echo(f"  {note}", err=True)


def _each(lists: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(item for items in lists for item in items))
