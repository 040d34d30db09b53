"""Whether a failed todo is tried again, and when.

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): a delay drawn evenly from 0 to the
doubling cap spreads the second wave best.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from coordination.models import Retry

MIN_DELAY = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Again:
    delay: timedelta


@dataclass(frozen=True)
class GiveUp:
    pass


def decide(policy: Retry, failures: int, draw: float) -> Again | GiveUp:
    """`failures` counts this one (the first is 1); `draw` is a random number in [0, 1)."""
    if failures >= policy.attempts:
        return GiveUp()
    # The exponent is capped: a factor of 10 over 99 attempts would overflow before min() could help.
    cap_s = min(policy.max_delay.total_seconds(), policy.delay.total_seconds() * policy.factor ** min(failures - 1, 60))
    return Again(max(MIN_DELAY, timedelta(seconds=cap_s * draw)))
