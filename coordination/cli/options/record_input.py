"""Input of records: the fields of a new record, or the changes of an update, from options, a file as YAML or
JSON, or questions on a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
from pydantic import BaseModel
from rich_click import option

from coordination.api import AliasBomb, read_tree, read_values
from coordination.cli.context import despite_quiet, on_a_terminal
from coordination.cli.options.fields import Field, Many
from coordination.cli.options.values import read_file_or_stdin
from coordination.errors import InvalidFile, UsageError
from coordination.text import did_you_mean, is_utf8, listed

STDIN = "-"
CORRECT = "correct it and try again; nothing was created"


def read_records(name: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the records, and whether the file holds a list of them. Raises UsageError."""
    file = "standard input" if name == STDIN else name
    data = _data(read_file_or_stdin(name), file)
    records = data if isinstance(data, list) else [data]
    for i, record in enumerate(records, 1):
        if not isinstance(record, dict):
            place = f"its item {i}" if isinstance(data, list) else "it"
            raise UsageError(
                f"{file}: {place} is not a record", "write the fields of a record, or a list of such"
            )
    return records, isinstance(data, list)


def _data(raw: bytes, file: str) -> Any:
    try:
        return json.loads(raw)  # YAML holds no tabs, with which some indent JSON
    except (ValueError, RecursionError):
        return _yaml(raw, file)


def _yaml(raw: bytes, file: str) -> Any:
    try:
        data, findings = read_values(read_tree(raw, file))
    except InvalidFile as error:
        raise UsageError(error.message, CORRECT) from error
    except AliasBomb as error:
        raise UsageError(f"{file}: the '*' references repeat too much", CORRECT) from error
    if findings:
        raise UsageError(
            "\n".join(f"{file}:{f.node.start_mark.line + 1}: {f.message}" for f in findings), CORRECT
        )
    return data


Command = Callable[..., Any]
Options = Mapping[str, Any]
"""Parameters of a command by name."""
ADD, REMOVE = "add", "remove"
VERBS = {ADD: "Add an item.", REMOVE: "Remove an item."}


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The changes of an update, applied when the file is written: of two people who add a label at the
    same time, both labels are there afterwards.
    """

    values: Mapping[Field, Any]
    """New values of fields; None or an empty list clears the field."""
    added: Mapping[Field, Sequence[Any]]
    removed: Mapping[Field, Sequence[str]]

    def __bool__(self) -> bool:
        return bool(self.values or self.added or self.removed)

    def __call__(self, record: BaseModel) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for field, value in self.values.items():
            if field.part:
                part = changes.get(field.part) or _part(record, field.part)
                changes[field.part] = _filled({**part, field.inner: value})
            else:
                changes[field.field] = None if value == [] else value
        for field in dict.fromkeys((*self.added, *self.removed)):
            changes[field.field] = self._list(record, field) or None
        return changes

    def _list(self, record: BaseModel, field: Field) -> list[Any]:
        """Return the list after the change. An item that is added again keeps its place."""
        present = {field.name_of(item): item for item in getattr(record, field.field)}
        removed = self.removed.get(field, ())
        for value in removed:
            if value not in present:
                hint = f"it has {', '.join(present)}" if present else "it has none"
                raise UsageError(f"{field.spelt(REMOVE)}: there is no {value!r} to remove", hint)
        kept = {name: item for name, item in present.items() if name not in removed}
        return list((kept | {field.name_of(item): item for item in self.added.get(field, ())}).values())


def for_create(fields: Sequence[Field]) -> Callable[[Command], Command]:
    return _with(_option(field) for field in fields)


def for_update(fields: Sequence[Field]) -> Callable[[Command], Command]:
    """Add options for every field but the id; lists may also be changed value by value."""
    options = [_option(field) for field in changeable(fields)]
    options += [_option(field, verb) for field in fields if field.many for verb in (ADD, REMOVE)]
    return _with(options)


def changeable(fields: Iterable[Field]) -> list[Field]:
    return [field for field in fields if field.field != "id"]


def record_of(fields: Iterable[Field], options: Options) -> dict[str, Any]:
    """Return the fields of a new record; an empty value sets none."""
    record: dict[str, Any] = {}
    for field, value in _used(fields, options):
        if value not in (None, []):
            owner = record.setdefault(field.part, {}) if field.part else record
            owner[field.inner] = value
    return record


def changes_of(fields: Sequence[Field], options: Options) -> Changes:
    """Return the changes. Raises UsageError for a list that is replaced and changed at once."""
    changes = Changes(
        values=dict(_used(changeable(fields), options)),
        added={
            f: _value(f, texts, f.spelt(ADD)) for f, texts in _changed_lists(fields, options, ADD).items()
        },
        removed=_changed_lists(fields, options, REMOVE),
    )
    for verb, lists in ((ADD, changes.added), (REMOVE, changes.removed)):
        for field in lists:
            if field in changes.values:
                hint = f"{field.option} replaces the list, {field.spelt(verb)} changes it"
                raise UsageError(f"{field.option} and {field.spelt(verb)} exclude each other", hint)
    return changes


def _used(fields: Iterable[Field], options: Options) -> Iterator[tuple[Field, Any]]:
    """Yield each field that an option sets, with its value. Raises UsageError where two options set one
    field.
    """
    by_name: dict[str, Field] = {}
    for field in fields:
        text = options.get(field.key)
        if text in (None, (), False):
            continue
        if field.field in by_name:
            other = by_name[field.field].option
            raise UsageError(f"{other} and {field.option} exclude each other", "use one of them")
        by_name[field.field] = field
        yield field, _value(field, text)


def _value(field: Field, text: Any, option_: str = "") -> Any:
    """Return the value of an option, of several texts for a list."""
    if field.flag is not None:
        return field.flag
    try:
        if not is_utf8("".join(text)):
            raise click.BadParameter("it is not UTF-8")
        if field.many:
            return [field.read(value) for value in _several(field, text)]
        return field.read(text) if text.strip() else None
    except click.BadParameter as error:
        error.param_hint = option_ or field.option
        raise


def _changed_lists(fields: Iterable[Field], options: Options, verb: str) -> dict[Field, list[str]]:
    items = {field: _several(field, options.get(f"{verb}_{field.key}", ())) for field in fields if field.many}
    return {field: values for field, values in items.items() if values}


def _several(field: Field, texts: Iterable[str]) -> list[str]:
    """Return each item once, in their order."""
    parts = (part for text in texts for part in (text.split(",") if field.many is Many.WORDS else [text]))
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _part(record: BaseModel, name: str) -> dict[str, Any]:
    part: BaseModel | None = getattr(record, name)
    return part.model_dump(exclude_unset=True) if part else {}


def _filled(part: Mapping[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in part.items() if value is not None} or None


def _with(options: Iterable[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def decorated(command: Command) -> Command:
        for add in reversed(list(options)):
            command = add(command)
        return command

    return decorated


def _option(field: Field, verb: str = "") -> Callable[[Command], Command]:
    """Return the option of a field, or the one that adds to its list or removes from it."""
    return option(
        field.spelt(verb) if verb else field.option,
        f"{verb}_{field.key}" if verb else field.key,
        is_flag=True if field.flag is not None else None,
        multiple=field.many is not None,
        metavar=(field.metavar_of_names if verb == REMOVE else field.metavar) or None,
        help=VERBS.get(verb, field.help),
        panel="Lists, value by value" if verb else field.panel,
        shell_complete=field.complete,
    )


def ask_for_missing(record: dict[str, Any], fields: Iterable[Field]) -> None:
    """Ask for the missing required fields. Raises UsageError that names their options without a terminal."""
    missing = [field for field in fields if field.required and field.field not in record]
    if missing and not on_a_terminal():
        options = " and ".join(field.option for field in missing)
        raise UsageError(f"{options} {'is' if len(missing) == 1 else 'are'} missing", _example(missing))
    for field in missing:
        known = _known(field)
        question = f"{field.key.capitalize()} ({listed(known)})" if known else field.key.capitalize()
        with despite_quiet():
            record[field.field] = click.prompt(question, value_proc=partial(_answer, known), err=True)


def _known(field: Field) -> list[str]:
    """Return the names that the file declares, if the field is one of those."""
    ctx = click.get_current_context()
    return [item.value for item in field.complete(ctx, ctx.command.params[0], "")] if field.complete else []


def _answer(known: Sequence[str], text: str) -> str:
    """Read an answer; click asks again after a UsageError."""
    text = text.strip()
    if not text:
        raise click.UsageError("it cannot be empty")
    if known and text not in known:
        raise click.UsageError(f"there is no {text!r}{did_you_mean(text, known)}")
    return text


def _example(missing: Iterable[Field]) -> str:
    text = " ".join(f"{field.option} {field.metavar}" for field in missing)
    return f"{click.get_current_context().command_path} {text}; or --from-file FILE"
