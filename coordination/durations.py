"""Durations in milliseconds, as Redis takes them."""

from __future__ import annotations

from datetime import timedelta

MS = timedelta(milliseconds=1)


def ms(duration: timedelta) -> int:
    """Return a duration in whole milliseconds."""
    return duration // MS
