"""Durations in milliseconds, as Redis takes them, and one that several packages share."""

from __future__ import annotations

from datetime import timedelta

MS = timedelta(milliseconds=1)
EXPIRY_WARNING = timedelta(days=14)
"""Time before the expiry of a key, a credential or a certificate from which people are warned."""


def ms(duration: timedelta) -> int:
    """Return a duration in whole milliseconds."""
    return duration // MS
