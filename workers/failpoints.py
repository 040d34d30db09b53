"""Where a worker can be made to fail besides what it asks of Redis: around the compensation of a todo. See wire/failpoints.py."""

from __future__ import annotations

from coordination.wire import failpoints
from workers.deeds.undoing import Undoing

SEAMS: tuple[failpoints.Seam, ...] = (
    (Undoing, "undone", "compensate.begin"),
    (Undoing, "keep", "compensate.end"),
    (Undoing, "finish", "compensate.remove"),
)
"""Before its command starts; when that has succeeded; where worktree and branch go."""


def switch_on(words: str) -> None:
    failpoints.switch_on(words, SEAMS)
