"""The result of a delivery that Celery and Flower show."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TaskResultKind(StrEnum):
    DONE = "done"
    """The todo succeeded."""
    FAILED = "failed"
    """The todo failed for good: FAILURE, and yet it counts."""
    ENDED = "ended"
    """The todo had ended before this delivery; its part may not have been counted yet."""
    CANCELLED = "cancelled"
    """The todo was cancelled, here or before: REVOKED; its part counts as of any that has ended."""
    LATER = "later"
    """This delivery does not end the todo: it is sent again. Must not count."""


@dataclass(frozen=True)
class TaskResult:
    kind: TaskResultKind
    why: str = ""
