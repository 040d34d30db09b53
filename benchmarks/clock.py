"""How the benchmarks take the time."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds(deed: Callable[[], object]) -> float:
    begin = time.perf_counter()
    deed()
    return time.perf_counter() - begin


def best(deed: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest round: what the deed costs when nothing else wants the machine."""
    return min(seconds(deed) for _ in range(rounds))
