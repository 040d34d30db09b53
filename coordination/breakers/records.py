"""A breaker as people and programs read it.

When a breaker opens, and for how long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from coordination.backend.keys import resource
from coordination.settings import Settings
from coordination.text import counted


class BreakerState(StrEnum):
    CLOSED = "closed"
    """Everybody gets through."""
    OPEN = "open"
    """Nobody does until its time is over."""
    HALF_OPEN = "half-open"
    """One tries, or may; nobody else gets through."""


class Breaker(BaseModel):
    """One that is not at rest."""

    model_config = ConfigDict(frozen=True)

    name: str
    """`repo:x`, `resource:x` or `action:x`."""
    state: BreakerState
    failures: int
    """Within the window, while it is closed."""
    threshold: int
    """So many open it."""
    window_s: float
    why: str
    """What failed last."""
    failed_at: datetime | None
    since: datetime | None
    """When it opened first; since then it was not closed."""
    opened_at: datetime | None
    """When it opened last."""
    probe_at: datetime | None
    """From when on somebody may try, while it is open."""
    probe: str
    """Who tries at present, in words."""
    behind: int
    """Todos that are parked behind it."""

    @property
    def tripped(self) -> bool:
        return self.state is not BreakerState.CLOSED

    @property
    def reason(self) -> str:
        """`5 failures in 300 s, last: TODO-3 exit code 7`."""
        count = self.threshold if self.tripped else self.failures
        return f"{counted(count, 'failure')} in {self.window_s:g} s, last: {self.why}"

    @property
    def outlook(self) -> str:
        """What comes next, in words; empty while it is closed."""
        if self.probe:
            return f"{self.probe} probes it"
        if not self.tripped:
            return ""
        return (
            f"probe at {shown(self.probe_at)}"
            if self.state is BreakerState.OPEN
            else "the next one that asks probes it"
        )


class Reset(BaseModel):
    """One that somebody has closed by hand."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    name: str
    by: str
    state: BreakerState
    """That it had."""
    why: str
    """What had failed last."""


def shown(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "?"


def breaker_of(read: Mapping[str, Any]) -> Breaker:
    """From what the step `breaker/list` says."""
    state = BreakerState(read["state"])
    return Breaker(
        name=read["name"],
        state=state,
        failures=read["failures"],
        threshold=read["threshold"],
        window_s=int(read["window_ms"] or 0) / 1000,
        why=read["why"],
        failed_at=_moment(read["failed_at"]),
        since=_moment(read["since"]),
        opened_at=_moment(read["opened_at"]),
        probe_at=_moment(read["until"]) if state is BreakerState.OPEN else None,
        probe=read["probe_by"],
        behind=read["behind"],
    )


def reset_of(entry: str, words: Mapping[str, str]) -> Reset:
    return Reset.model_validate({"at": _moment(entry.partition("-")[0]), **words})


def _moment(ms: str) -> datetime | None:
    return datetime.fromtimestamp(int(ms) / 1000, UTC) if ms else None


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
