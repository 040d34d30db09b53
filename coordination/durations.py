"""Durations in milliseconds, as Redis takes them; the clock by which deadlines are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

MS = timedelta(milliseconds=1)
EXPIRY_WARNING = timedelta(days=14)
"""Time before the expiry of a key, a credential or a certificate from which people are warned."""


def ms(duration: timedelta) -> int:
    """Return a duration in whole milliseconds."""
    return duration // MS


now_s: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds since an arbitrary moment: monotonic, and running while the machine sleeps.

After an hour of sleep, a laptop must not believe that it still holds a lock of ten seconds, but Python's
monotonic clock stands still during sleep on Linux. Without CLOCK_BOOTTIME (macOS, Windows) Python's monotonic
clock is used, and only the fence protects after a sleep. The wall clock is never read, because it can be
changed.
"""
