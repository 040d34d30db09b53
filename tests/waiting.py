"""Waiting for what must come, with a deadline: a test never sleeps and hopes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 30.0) -> T:
    """Return the condition's value as soon as it is truthy; fail if that takes longer than the timeout."""
    asked = time.monotonic()
    deadline = asked + timeout_s
    while not (found := condition()):
        answered = time.monotonic()
        if answered > deadline:
            raise AssertionError(f"not within {timeout_s} s: {condition}")
        time.sleep(min(max(0.01, answered - asked), 0.2))  # a dear question takes at most half of a processor
        asked = time.monotonic()
    return found
