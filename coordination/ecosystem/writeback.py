"""What a run has achieved, written back: succeeded todos become completed, with their hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode

from coordination.ecosystem.document import Draft
from coordination.ecosystem.editing import Change, edit
from coordination.ecosystem.splices import Splice, entry, insert, item, like_json, replace
from coordination.ecosystem.values import plain_value
from coordination.models import TodoStatus

BESIDE = {
    "status": ("repo", "task", "id"),
    "actual_hours": ("estimated_hours", "status", "repo", "id"),
    "updated": ("created", "status", "repo", "id"),
}
"""After which field a new one goes."""


def complete_todos(path: Path, hours: Mapping[str, float | None], now: datetime) -> tuple[str, ...]:
    """Set `status: completed`, `actual_hours` (unless None) and `updated` of the named todos, in one edit.

    Returns the ids that were changed, in the file's order: todos that are completed already, or are no longer in the
    file, are left alone. Raises what `edit` raises; the file is then untouched.
    """
    completed: list[str] = []

    def decide(draft: Draft) -> Change:
        completed.clear()
        splices: list[Splice] = []
        for todo, node in _open_todos(draft, hours):
            splices += _splices(draft.tree.text, node, _changes(todo, hours[todo["id"]], now), todo)
            completed.append(todo["id"])
        return Change(splices=tuple(splices), expected=draft.data)

    edit(path, decide)
    return tuple(completed)


def _open_todos(draft: Draft, hours: Mapping[str, float | None]) -> Iterator[tuple[dict[str, Any], MappingNode]]:
    todos = (draft.data.get("coordination") or {}).get("todos") or ()
    for i, todo in enumerate(todos):
        if todo["id"] in hours and todo.get("status") != TodoStatus.COMPLETED:
            yield todo, item(draft.tree.root, "coordination", "todos", i)


def _changes(todo: dict[str, Any], hours: float | None, now: datetime) -> dict[str, str]:
    changes = {"status": TodoStatus.COMPLETED.value}
    if hours is not None:
        changes["actual_hours"] = hours_text(hours)
    changes["updated"] = _moment(now, like=todo.get("updated") or todo.get("created"))
    return changes


def hours_text(hours: float) -> str:
    """Two decimals; four where a todo took minutes, six where it took seconds or less: 0 would say that it took no time.

    Never an exponent, which YAML 1.1 reads as text.
    """
    decimals = 2 if hours >= 0.1 else 4 if hours >= 0.001 else 6
    return f"{hours:.{decimals}f}".rstrip("0").rstrip(".")


def _moment(now: datetime, like: object) -> str:
    """A date where the file writes dates, else a time in UTC."""
    day = now.date().isoformat()
    if like is None or len(str(like)) <= len(day):
        return day
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _splices(text: str, node: MappingNode, changes: dict[str, str], todo: dict[str, Any]) -> Iterator[Splice]:
    """The splices, while `todo` takes the values that they will be read as."""
    for name, value in changes.items():
        old = entry(node, name)
        if old is not None:
            splice = replace(text, old, value)
            quoted = bool(old.quote)
        else:
            quoted = name != "actual_hours" and like_json(node)
            splice = insert(text, node, name, f'"{value}"' if quoted else value, BESIDE[name])
        todo[name] = value if quoted else plain_value(value)
        if text[splice.start : splice.end] != splice.text:
            yield splice
