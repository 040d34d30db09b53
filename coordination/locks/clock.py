"""The clock of deadlines: monotonic, and running while the machine sleeps.

After an hour of sleep, a laptop must not believe that it still holds a lock of ten seconds, but Python's
monotonic clock stands still during sleep on Linux. Without CLOCK_BOOTTIME (macOS, Windows) Python's monotonic
clock is used, and only the fence protects after a sleep. The wall clock is never read, because it can be
changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

now_s: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds since an arbitrary moment."""
