"""What a message about one todo must say, so that it can be sent again exactly as it was."""

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
    """The run works on this repository there; None before the first claim."""
    level: int
    index: int
    """Its place in its level's chord."""
    size: int
    """How many messages its level has; 0 where the run has no levels."""

    @classmethod
    def parse(cls, run_id: str, fields: Sequence[str]) -> Delivery:
        """From what the Lua steps return: todo, attempt, repo, host, level, index and size."""
        todo, attempt, repo, host, level, index, size = fields
        return cls(
            run_id=run_id, todo_id=todo, attempt=int(attempt), repo=repo, host=host or None,
            level=int(level), index=int(index), size=int(size),
        )  # fmt: skip
