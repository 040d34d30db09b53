"""Records that somebody wrote down: one or a list of them, YAML or JSON, by the names that their fields have in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coordination.cli.options.values import read_stdin
from coordination.ecosystem.yaml_text.tree import read_tree
from coordination.ecosystem.yaml_text.values import AliasBomb, read_values
from coordination.errors import InvalidFile, UsageError

STDIN = "-"
CORRECT = "correct it and try again; nothing was created"


def read_records(name: str) -> tuple[list[dict[str, Any]], bool]:
    """The records, and whether the file holds a list of them. Raises UsageError."""
    file = "standard input" if name == STDIN else name
    data = _data(_bytes(name), file)
    records = data if isinstance(data, list) else [data]
    for i, record in enumerate(records, 1):
        if not isinstance(record, dict):
            place = f"its item {i}" if isinstance(data, list) else "it"
            raise UsageError(f"{file}: {place} is no record", "write the fields of a record, or a list of such")
    return records, isinstance(data, list)


def _bytes(name: str) -> bytes:
    try:
        return read_stdin() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read: {error.strerror}", "name another file, or - for standard input"
        ) from error


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
        raise UsageError("\n".join(f"{file}:{f.node.start_mark.line + 1}: {f.message}" for f in findings), CORRECT)
    return data
