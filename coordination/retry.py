"""Retrying operations: pauses with full jitter, and the loop that waits between two tries.

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015) draws a pause evenly from
0 to a limit that doubles with each failure, so that callers that failed together do not retry together. The
retry policy of todos is separate: `coordination/runs/retry_policy.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import TypeVar

FIRST_S, LONGEST_S = 1.0, 60.0

T = TypeVar("T")


def delay_s(failures: int, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> float:
    """Return the pause before the next try, after so many failures."""
    return random.uniform(0, min(longest_s, first_s * 2 ** min(failures, 10)))  # noqa: S311 -- no secret


def growing_pauses_s() -> Iterator[float]:
    """Yield pauses with full jitter, for ever."""
    return (delay_s(failures) for failures in count())


def retried(
    action: Callable[[], T],
    pauses_s: Iterable[float],
    passes: Callable[[Exception, float], bool],
    wait: Callable[[float], object] = time.sleep,
) -> T:
    """Return the result of `action`, called again after each pause while `passes` accepts its error.

    `passes` judges an error, logs that the action is retried after so many seconds, and may raise another
    error instead. The error of the last try is raised: one that is not accepted, or the one after the last
    pause.
    """
    for pause_s in pauses_s:
        try:
            return action()
        except Exception as error:
            if not passes(error, pause_s):
                raise
        wait(pause_s)
    return action()
