"""The number of examples that a test of properties tries: a third in `make test`, all in `make test-long`."""

from __future__ import annotations

import os

ALL = "ALL_EXAMPLES" in os.environ


def examples(number: int) -> int:
    """Return how many of `number` examples are tried now."""
    return number if ALL else max(15, number // 3)
