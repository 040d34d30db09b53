"""Failpoints of a worker besides its calls to Redis: around the compensation of a todo."""

from __future__ import annotations

from coordination.broker import failpoints
from workers.actions import Compensate

SEAMS: tuple[failpoints.Seam, ...] = (
    (Compensate, "undone", "compensate.begin"),
    (Compensate, "keep", "compensate.end"),
    (Compensate, "on_released", "compensate.remove"),
)
"""Before the command starts; after it has succeeded; before worktree and branch are removed."""


def switch_on(words: str) -> None:
    failpoints.switch_on(words, SEAMS)
