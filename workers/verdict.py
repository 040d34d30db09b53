"""What a delivery came to, for the carrier: how Celery and Flower are told, and whether its level's chord counts it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    DONE = "done"
    """The todo succeeded."""
    FAILED = "failed"
    """The todo failed for good: FAILURE, and yet it counts."""
    ENDED = "ended"
    """It had ended before this delivery: nothing to show, but its part may not have been counted yet."""
    CANCELLED = "cancelled"
    """It was cancelled, here or before this delivery: REVOKED; its part counts as of any that has ended."""
    LATER = "later"
    """This delivery does not end the todo: it is sent again. Must not count."""


@dataclass(frozen=True)
class Verdict:
    kind: Kind
    why: str = ""
