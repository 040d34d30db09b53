"""Where a worker can be made to fail besides what it asks of Redis: around the compensation of a todo. See backend/failpoints.py."""

from __future__ import annotations

from coordination.broker import failpoints
from workers.actions import Compensate

SEAMS: tuple[failpoints.Seam, ...] = (
    (Compensate, "undone", "compensate.begin"),
    (Compensate, "keep", "compensate.end"),
    (Compensate, "on_released", "compensate.remove"),
)
"""Before its command starts; when that has succeeded; where worktree and branch go."""


def switch_on(words: str) -> None:
    failpoints.switch_on(words, SEAMS)
