"""The content of a message about one todo: everything needed to send the same message again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Delivery:
    run_id: str
    todo_id: str
    attempt: int
    repo: str
    host: str | None
    """Host on which the run works on this repository; None before the first claim."""
    level: int
    index: int
    """Index of the todo in its level's chord."""
    size: int
    """Number of messages of its level; 0 if the run has no levels."""

    @classmethod
    def parse(cls, run_id: str, fields: Sequence[str]) -> Delivery:
        """Parse a delivery in a Lua step's reply: todo, attempt, repo, host, level, index and size."""
        todo, attempt, repo, host, level, index, size = fields
        return cls(
            run_id=run_id, todo_id=todo, attempt=int(attempt), repo=repo, host=host or None,
            level=int(level), index=int(index), size=int(size),
        )  # fmt: skip
