"""When a breaker opens, and for how long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from coordination.backend.keys import resource
from coordination.settings import Settings

_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, kw_only=True)
class Policy:
    failures: int = 5
    """So many within the window open it; 0: it never opens."""
    window: timedelta = timedelta(seconds=300)
    open_for: timedelta = timedelta(seconds=60)

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        return cls(failures=settings.breaker_failures, window=settings.breaker_window, open_for=settings.breaker_open)

    @property
    def figures(self) -> tuple[int, int, int]:
        """As the steps read them, durations in ms."""
        return self.failures, max(1, self.window // _MS), max(1, self.open_for // _MS)

    def words(self, without: Iterable[str] = ()) -> str:
        """For the record of a run; `without`: the resources that have no breaker."""
        return " ".join(map(str, (*self.figures, *map(resource, without))))
