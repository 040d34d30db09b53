"""How `created` and `updated` are written: as the file does."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(now: datetime, like: object) -> str:
    """A date where the file writes dates, or nothing yet; else a time in UTC. `like` is a value of the kind."""
    day = now.date().isoformat()
    if like is None or len(str(like)) <= len(day):
        return day
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
