r"""`--format '{id}\t{title}'`: one line of text for each record, by the names of its fields.

Only the record's own fields can be named: Python's format strings reach through attributes and indexes into
everything that an object knows, and templates get copied from strangers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from datetime import date, datetime, timedelta
from string import Formatter
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from coordination.api import USED_ELSEWHERE
from coordination.cli.times import format_time
from coordination.errors import UsageError
from coordination.models import ResourceNeed
from coordination.text import nearest

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
    """Return the value of a field as text: a list by commas, nested values as JSON."""
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
    """Tell whether an item of a list is nested."""
    return isinstance(item, BaseModel) and not isinstance(item, ResourceNeed)
