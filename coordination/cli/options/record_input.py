"""Input of records: declared fields from options, records from a file as YAML or JSON, and questions on a
terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import click
import rich_click

from coordination.api import AliasBomb, read_tree, read_values
from coordination.api.fields import Field
from coordination.cli import completion
from coordination.cli.command import made_by
from coordination.cli.context import despite_quiet, on_a_terminal
from coordination.cli.options import values
from coordination.cli.options.values import Function, one_of, read_file_or_stdin, text_or_stdin
from coordination.declared import Parameter
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


@dataclass(frozen=True)
class Given:
    """A field of a record as options of a command give it."""

    declared: Parameter

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def option(self) -> Field:
        option: Field = self.declared.option  # type: ignore[assignment]
        return option

    @property
    def flag(self) -> str:
        return self.option.flag or f"--{self.name.replace('_', '-')}"

    @property
    def is_flag(self) -> bool:
        return self.declared.type is bool and not self.option.reads

    @property
    def metavar(self) -> str:
        return self.option.metavar

    @property
    def key(self) -> str:
        """Return its name for people."""
        return self.flag.removeprefix("--").replace("-", " ")

    def spelt(self, verb: str) -> str:
        """Return `--label` as `--add-label`."""
        return f"--{verb}-{self.flag.removeprefix('--')}"

    def made(self, verb: str = "") -> click.Parameter:
        """Return the option of the field, or the one that adds to its list or removes from it."""
        one, option = self.declared, self.option
        words = [] if one.type is str else _words(one.type)
        text = VERBS.get(verb) or option.text
        if words and not verb:
            text = f"{text} {one_of(one.type).capitalize()}"
        if option.stdin and not verb:
            text = f"{text} - reads standard input."
        complete = getattr(completion, option.completes) if option.completes else None
        if words:
            complete = completion.enum_values(one.type)
        if complete and self._has_commas:
            complete = completion.listed(complete)
        metavar = self.metavar.replace("[:N]", "") if verb == REMOVE else self.metavar
        return made_by(
            rich_click.option(
                self.spelt(verb) if verb else self.flag,
                f"{verb}_{self.name}" if verb else self.name,
                is_flag=True if self.is_flag else None,
                multiple=one.several,
                metavar=metavar or None,
                help=text,
                panel="Lists, value by value" if verb else option.panel,
                shell_complete=complete,
            )
        )

    @property
    def _has_commas(self) -> bool:
        return self.metavar.endswith("…")

    def is_given(self, options: Mapping[str, Any]) -> bool:
        return options.get(self.name) not in (None, (), False)

    def texts(self, options: Mapping[str, Any], verb: str) -> tuple[str, ...]:
        """Return the items to add or remove, each once, in their order."""
        return self._several(options.get(f"{verb}_{self.name}", ()))

    def _several(self, texts: Iterable[str]) -> tuple[str, ...]:
        parts = (part for text in texts for part in (text.split(",") if self._has_commas else [text]))
        return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))

    def read(self, text: Any, verb: str = "") -> Any:
        """Return the value of a text, or of several texts for a list; None for an empty one."""
        if self.is_flag:
            return True
        try:
            if not is_utf8("".join(text)):
                raise click.BadParameter("it is not UTF-8")
            if self.declared.several:
                return tuple(map(self._value, self._several(text)))
            return self._value(text) if text.strip() else None
        except click.BadParameter as error:
            error.param_hint = self.spelt(verb) if verb else self.flag
            raise

    def _value(self, text: str) -> Any:
        if self.option.stdin:
            return text_or_stdin(text)
        return getattr(values, self.option.reads)(text) if self.option.reads else text


def _words(kind: Any) -> list[str]:
    """Return the values of an enumeration."""
    return [one.value for one in kind] if isinstance(kind, type) and issubclass(kind, StrEnum) else []


ADD, REMOVE = "add", "remove"
VERBS = {ADD: "Add an item.", REMOVE: "Remove an item."}


def options_to_create(fields: Iterable[Given]) -> list[click.Parameter]:
    return [field.made() for field in fields]


def with_options(made: Sequence[click.Parameter]) -> Callable[[Function], Function]:
    """Add options to a function, in this order."""

    def decorated(function: Function) -> Function:
        own = function.__dict__.setdefault("__click_params__", [])
        own.extend(reversed(made))
        return function

    return decorated


def options_to_change(fields: Sequence[Given]) -> list[click.Parameter]:
    """Return options for every field; lists may also be changed value by value."""
    lists = [field for field in fields if field.declared.several]
    return [*options_to_create(fields), *(field.made(verb) for field in lists for verb in (ADD, REMOVE))]


def ask_for_missing(record: dict[str, Any], fields: Iterable[Given]) -> None:
    """Ask for the missing required fields. Raises UsageError that names their options without a terminal."""
    missing = [field for field in fields if field.declared.required and field.name not in record]
    if missing and not on_a_terminal():
        options = " and ".join(field.flag for field in missing)
        raise UsageError(f"{options} {'is' if len(missing) == 1 else 'are'} missing", _example(missing))
    for field in missing:
        known = _known(field)
        question = f"{field.key.capitalize()} ({listed(known)})" if known else field.key.capitalize()
        with despite_quiet():
            record[field.name] = click.prompt(question, value_proc=partial(_answer, known), err=True)


def _known(field: Given) -> list[str]:
    """Return the names that the file declares, if the field is one of those."""
    if not field.option.completes:
        return []
    ctx = click.get_current_context()
    complete = getattr(completion, field.option.completes)
    return [item.value for item in complete(ctx, ctx.command.params[0], "")]


def _answer(known: Sequence[str], text: str) -> str:
    """Read an answer; click asks again after a UsageError."""
    text = text.strip()
    if not text:
        raise click.UsageError("it cannot be empty")
    if known and text not in known:
        raise click.UsageError(f"there is no {text!r}{did_you_mean(text, known)}")
    return text


def _example(missing: Iterable[Given]) -> str:
    text = " ".join(f"{field.flag} {field.metavar}" for field in missing)
    return f"{click.get_current_context().command_path} {text}; or --from-file FILE"
