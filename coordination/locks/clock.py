"""The clock of deadlines: it never jumps, and it goes on while the machine sleeps.

A laptop that slept for an hour must not believe in a lock of ten seconds, and Python's monotonic clock stands still in that
hour on Linux. Where there is no CLOCK_BOOTTIME, it is Python's monotonic clock: on macOS and Windows, the fence alone guards
after a sleep. The wall clock is never read: somebody may set it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

now_s: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds since some moment."""
