"""Fields of a program's records, which may lie: missing, of another type, huge, with control characters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from coordination.terminal import CONTROLS
from coordination.text import shortened

Record = Mapping[str, Any]
LONGEST_LINE = 500
"""Characters of a line of the transcript."""
MOST_LINES = 40
"""Lines of one message in the transcript."""
LONGEST_TEXT = 64 * 1024
"""Characters of a text that is kept from a record."""
MOST = 2**53
"""Largest count: Lua and JSON keep it exact."""
_CONTROL = re.compile(f"[{CONTROLS}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def text(record: Record, *path: str) -> str:
    """Return the text at a path, without control characters other than tab and newline; empty if none."""
    found = _value(record, path)
    return clean(found) if isinstance(found, str) else ""


def identifier(record: Record, *path: str) -> str:
    """Return an id that may become an argument of a command line; empty if the value could be none."""
    found = _value(record, path)
    return found if isinstance(found, str) and _ID.fullmatch(found) else ""


def count(record: Record, *path: str) -> int:
    """Return a count; 0 if the value is none."""
    found = _value(record, path)
    return found if type(found) is int and 0 <= found <= MOST else 0


def status(record: Record, *path: str) -> int | None:
    """Return the status of an error of HTTP."""
    found = count(record, *path)
    return found if 400 <= found < 600 else None


def amount(record: Record, *path: str) -> float | None:
    """Return an amount of USD or of time; None if the value is none."""
    found = _value(record, path)
    return float(found) if type(found) in (int, float) and 0 <= found <= MOST else None


def micro_usd(record: Record, *path: str) -> int | None:
    """Return an amount of USD in millionths; None if the value is none."""
    found = amount(record, *path)
    return None if found is None else min(round(found * 1_000_000), MOST)


def moment(record: Record, *path: str) -> datetime | None:
    """Return a moment that is given in seconds since 1970; None if the value is none."""
    seconds = count(record, *path)
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (OverflowError, ValueError, OSError):
        return None


def fields(record: Record, *path: str) -> Record:
    """Return the record at a path; empty if the value is none."""
    found = _value(record, path)
    return found if isinstance(found, Mapping) else {}


def records(record: Record, *path: str) -> Iterator[Record]:
    """Return the records of the list at a path."""
    found = _value(record, path)
    if isinstance(found, Sequence) and not isinstance(found, str):
        yield from (one for one in found if isinstance(one, Mapping))


def clean(value: str) -> str:
    """Return a text that can be written to a file and shown: bounded, without control characters."""
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", shortened(value, LONGEST_TEXT)))


def line(value: str) -> str:
    """Return a text as one line of the transcript."""
    return shortened(" ".join(clean(value).split()), LONGEST_LINE)


def message(value: str) -> Iterator[str]:
    """Return the lines of the transcript for what the agent says."""
    lines = [one for one in map(line, value.splitlines()) if one]
    yield from (shortened(f"agent: {one}", LONGEST_LINE) for one in lines[:MOST_LINES])
    if len(lines) > MOST_LINES:
        yield f"agent: … {len(lines) - MOST_LINES} more lines"


def tool(name: str, arguments: Record) -> str:
    """Return the line of the transcript for a call of a tool: `$ COMMAND`, `edit PATH`, or its name."""
    command = next((found for key in ("command", "cmd") if (found := text(arguments, key))), "")
    path = next((found for key in _PATHS if (found := text(arguments, key))), "")
    if command:
        return line(f"$ {command}")
    if path:
        verb = "edit" if _EDITS.search(name) else "read" if _READS.search(name) else name
        return line(f"{verb} {path}")
    return line(f"tool {name}")


_PATHS = ("file_path", "filePath", "path", "notebook_path", "absolute_path")
_EDITS = re.compile(r"edit|write|create|replace|patch|insert", re.IGNORECASE)
_READS = re.compile(r"read|view|open", re.IGNORECASE)


def _value(record: Record, path: Sequence[str]) -> Any:
    found: Any = record
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found
