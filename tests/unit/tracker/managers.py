"""Managers of real files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

from coordination.ecosystem.document import load
from coordination.tracker.manager import CoordinationManager

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def manager_of(folder: Path, text: str) -> CoordinationManager:
    path = folder / "ecosystem.yaml"
    path.write_text(dedent(text).lstrip("\n"))
    return CoordinationManager(load(path), now=lambda: NOW)


def text_of(manager: CoordinationManager) -> str:
    return manager.document.path.read_text()


def statuses(manager: CoordinationManager) -> dict[str, str]:
    """Return the statuses that the file has now."""
    coordination = load(manager.document.path).ecosystem.coordination
    return {r.id: str(r.status) for r in (*coordination.issues, *coordination.plans, *coordination.todos)}
