"""Wait for an event with a deadline, so that no test sleeps for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 60.0) -> T:
    """Return the condition's value as soon as it is truthy; fail if that takes longer than the timeout."""
    began = asked = time.monotonic()
    while not (found := condition()):
        answered = time.monotonic()
        waited_s, cost_s = answered - began, answered - asked
        if waited_s > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {condition}")
        # Leave the processor to the processes that are waited for.
        time.sleep(min(max(0.01, 2 * cost_s, waited_s / 20), 0.1))
        asked = time.monotonic()
    return found
