"""Data on standard output: JSON, fields of a record, or a line by a template; and picture files."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as dataclass_fields
from datetime import date, datetime, timedelta
from functools import wraps
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

import click
from pydantic import BaseModel
from pydantic_core import to_json

from coordination.api import MADE_BY, USED_ELSEWHERE
from coordination.cli.completion import format_fields
from coordination.cli.screen.pager import paged
from coordination.cli.screen.tables import plain
from coordination.cli.times import format_time
from coordination.errors import Conflict, CoordinationError, UsageError
from coordination.models import ResourceNeed, presentable
from coordination.terminal import spelled
from coordination.text import nearest

if TYPE_CHECKING:
    from coordination.api import Access
    from coordination.settings import Settings


def print_json(data: Any) -> None:
    """Print plain values and records, nested in any way."""
    click.echo(to_json(data, indent=2))


def print_flower(access: Access, settings: Settings) -> None:
    """Print the access to Flower. A password of the settings stays out of logs."""
    password = "as in flower_auth" if settings.flower_auth else access.password
    click.echo(f"Flower  {access.url}  user {access.user}  password {password}")


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print a record, a line for each field that is not empty."""
    present = {name: value for name, value in facts.items() if value not in (None, "", [], {})}
    width = max(map(len, present), default=0)
    for name, value in present.items():
        click.echo(f"{plain(name):<{width}}  {spelled(_words(value, width + 2))}")


def _words(value: Any, indent: int) -> str:
    if isinstance(value, list):
        one_line = all(isinstance(item, str) and " " not in item for item in value)
        return (
            ", ".join(value)
            if one_line
            else ("\n" + " " * indent).join(_words(item, indent) for item in value)
        )
    if isinstance(value, dict):
        return ", ".join(
            f"{name}: {_words(item, indent)}" for name, item in value.items() if item not in (None, "", [])
        )
    return str(value).strip().replace("\n", "\n" + " " * indent)


HEAD_BYTES = 200
"""Number of bytes at the beginning of a picture that name coord as its author."""


def refuse_other(path: Path) -> None:
    """Refuse to replace a file that is no picture of coord. Raises UsageError, Conflict or
    CoordinationError.
    """
    if path.suffix.lower() != ".svg":
        raise UsageError(f"{path}: the picture is SVG", "name a file that ends in .svg")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    if head and MADE_BY.encode() not in head:
        raise Conflict(
            f"{path} exists and is not a picture of coord", "name another file, or remove that one"
        )


def write_picture(path: Path, svg: str) -> None:
    """Write a picture, whole or not at all. Raises as `refuse_other` does."""
    refuse_other(path)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(svg, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> CoordinationError:
    hint = (
        "make room, or name another file"
        if path.parent.is_dir()
        else f"make the folder {path.parent}, or name another"
    )
    return CoordinationError(f"{path} cannot be written: {error.strerror or error}", hint)


Command = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Form:
    as_json: bool
    template: Template | None = None

    @property
    def wanted(self) -> bool:
        """Return whether the output is for a program."""
        return self.as_json or self.template is not None

    def records(self, records: Sequence[object], read: Callable[[], None], data: object = None) -> None:
        """Print many records: an array, a line for each, or the output of `read` for people.

        `data`: the JSON where it is not the records themselves.
        """
        records = [presentable(record) for record in records]
        if self.as_json:
            print_json(records if data is None else data)
        elif self.template is not None:
            click.echo("".join(f"{self.template.line(record)}\n" for record in records), nl=False)
        else:
            with paged():
                read()

    def record(self, record: BaseModel, more: Mapping[str, Any], read: Callable[[], None]) -> None:
        """Print one record: an object with computed fields (`more`), a line, or the output of `read` for
        people.
        """
        record = presentable(record)
        if self.as_json:
            print_json({**dict(record), **more})
        elif self.template is not None:
            click.echo(self.template.line(record))
        else:
            with paged():
                read()


def output_options(kind: type, **others: type) -> Callable[[Command], Command]:
    """Add `--json` and `--format` to a command that gets a `form`. `kind`: the record whose fields a
    template may name; `others`: the record that is printed with that option of the command instead.
    """
    fields = field_names(kind)

    def with_options(command: Command) -> Command:
        @wraps(command)
        def with_form(*args: Any, as_json: bool, template: str | None, **rest: Any) -> Any:
            if as_json and template is not None:
                raise UsageError("--json and --format exclude each other", "choose one of them")
            known = next((field_names(other) for name, other in others.items() if rest[name]), fields)
            form = Form(as_json=as_json, template=None if template is None else Template(template, known))
            return command(*args, form=form, **rest)

        return as_json_option(_template_option(fields)(with_form))

    return with_options


def field_names(kind: type[Any]) -> list[str]:
    """Return the names of the fields of a model or a dataclass; nothing for another type."""
    if issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return [one.name for one in dataclass_fields(kind)] if is_dataclass(kind) else []


json_at_end = click.option("--json", "as_json", is_flag=True, help="Print the run as JSON at its end.")
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _template_option(fields: Sequence[str]) -> Callable[[Command], Command]:
    return click.option(
        "--format",
        "template",
        metavar="TEMPLATE",
        help="Print a line for each record, e.g. '{id} {status}'.",
        shell_complete=format_fields(fields),
    )


Part = Callable[[Any], str]
_ESCAPES = {r"\t": "\t", r"\n": "\n", r"\\": "\\"}
_TIME_FIELD = re.compile("at|since|[a-z_]+_at")
_EXAMPLE = "write for example: --format '{id} {title}'; a brace itself is {{ or }}"


class Template:
    def __init__(self, text: str, known: Collection[str]) -> None:
        """`known`: the fields of the record. Raises UsageError for any other, and for a wrong template."""
        self._parts = list(_parts(text, known))

    def line(self, record: object) -> str:
        """Return the line of a record. Raises UsageError where a value does not fit its format."""
        return "".join(part(record) for part in self._parts)


def _parts(text: str, known: Collection[str]) -> Iterable[Part]:
    try:
        pieces = list(Formatter().parse(re.sub(r"\\[tn\\]", lambda found: _ESCAPES[found[0]], text)))
    except ValueError as error:
        raise UsageError(f"--format {text!r}: {error}", _EXAMPLE) from error
    for literal, field, spec, conversion in pieces:
        if literal:
            yield _always(literal)
        if field is not None:
            yield _field(field, spec or "", conversion, known)


def _always(text: str) -> Part:
    return lambda record: text


def _field(name: str, spec: str, conversion: str | None, known: Collection[str]) -> Part:
    if name not in known:
        raise _unknown(name, known)
    if re.search(r"\d{5}", spec):
        raise UsageError(f"--format: {{{name}:{spec}}} is wider than any line", _EXAMPLE)
    if conversion or "{" in spec:
        raise UsageError(
            f"--format: {{{name}}} takes a width, a number format or a date format only", _EXAMPLE
        )

    def part(record: Any) -> str:
        try:
            return _written(_as_time(name, getattr(record, name)), spec)
        except ValueError as error:
            hint = (
                "'{id:<12}' sets a width, '{estimated_hours:.1f}' decimals, "
                "'{target:%d %b}' how a date is written, '{started_at:%H:%M}' a time"
            )
            raise UsageError(f"--format: {{{name}:{spec}}}: {error}", hint) from error

    return part


def _unknown(name: str, known: Collection[str]) -> UsageError:
    beginning = re.split(r"[.\[!:]", name)[0]
    if beginning in known:
        return UsageError(
            f"--format: there is no field {{{name}}}", f"a field stands by itself: {{{beginning}}}"
        )
    close = nearest(name, known) or next((word for word in USED_ELSEWHERE.get(name, ()) if word in known), "")
    meant = f"did you mean {{{close}}}? " if close else ""
    return UsageError(f"--format: there is no field {{{name}}}", f"{meant}known: {', '.join(known)}")


def _as_time(name: str, value: Any) -> Any:
    """Return a time in the zone of the reader: runs and messages have theirs as ISO 8601 text in UTC."""
    if isinstance(value, str) and _TIME_FIELD.fullmatch(name):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    return value.astimezone() if isinstance(value, datetime) and value.tzinfo else value


def _written(value: Any, spec: str) -> str:
    if value is None:
        return format("", spec) if re.fullmatch(r"[^%]?[<>^]?\d*", spec) else ""
    if isinstance(value, date) and "%" in spec:
        return value.strftime(spec)
    if isinstance(value, datetime) and value.tzinfo:
        return format(format_time(value), spec)
    return format(value if isinstance(value, int | float) and spec else _one_line(text_of(value)), spec)


def _one_line(text: str) -> str:
    """Return a value without newlines and tabs, which would add lines and columns to those of the
    template.
    """
    return text.replace("\n", "\\n").replace("\t", "\\t")


def text_of(value: object) -> str:
    """Return the value of a field as text: list items separated by commas, nested values as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):  # a status too, whose own text this is
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, ResourceNeed):
        return str(value)
    if isinstance(value, tuple | list) and not any(map(has_parts, value)):
        return ",".join(map(text_of, value))
    if isinstance(value, BaseModel | dict | tuple | list):
        return to_json(value).decode()
    return str(value)


def has_parts(item: object) -> bool:
    """Return whether an item of a list has fields of its own."""
    return isinstance(item, BaseModel) and not isinstance(item, ResourceNeed)
