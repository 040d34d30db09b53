"""Open the forge of a repository, with its token."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from coordination.forges.forge import Forge
from coordination.forges.locate import ForgeAddress

PATIENCE = timedelta(seconds=60)


def open_forge(
    address: ForgeAddress,
    token: str,
    *,
    spend: Callable[[], None] = lambda: None,
    answers: Path | None = None,
    patience: timedelta = PATIENCE,
) -> Forge:
    """Return the forge of a repository.

    `spend` is called before each request and raises ForgeError where the budget is used up; `answers`: folder
    of kept answers for conditional requests (None: in memory only); `patience`: longest pause that is waited
    for at a rate limit, and longest time of retries; a longer one is an error with `retry_at`.
    """
    raise NotImplementedError(address, token, spend, answers, patience)
