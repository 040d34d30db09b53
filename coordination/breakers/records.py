"""The state of a breaker, and the policy that decides when it opens and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from coordination.backend.keys import resource
from coordination.backend.steps.breaker import ListedBreaker, Prober
from coordination.durations import MS
from coordination.frozen import FrozenModel
from coordination.processes import ProcessIdentity
from coordination.settings import Settings
from coordination.text import counted


class BreakerState(StrEnum):
    CLOSED = "closed"
    """All calls are allowed."""
    OPEN = "open"
    """No calls are allowed until the open time ends."""
    HALF_OPEN = "half-open"
    """One probe is allowed; all other calls are blocked."""


class Breaker(FrozenModel):
    """A breaker that is not at rest."""

    name: str
    """`repo:x`, `resource:x`, `agent:x` or `action:x`."""
    state: BreakerState
    failures: int
    """Number within the window, while it is closed."""
    threshold: int
    """Number of failures that opens it."""
    window_s: float
    why: str
    """Description of the last failure."""
    failed_at: datetime | None
    since: datetime | None
    """Time since which it has not been closed."""
    opened_at: datetime | None
    """Time at which it last opened."""
    probe_at: datetime | None
    """Time from which a probe is allowed, while it is open; for an agent, the end of its limit."""
    probe: str
    """Description of the present probe; empty if its process is known to be gone."""
    behind: int
    """Number of todos that are parked behind it."""

    @property
    def tripped(self) -> bool:
        return self.state is not BreakerState.CLOSED

    @property
    def _is_limit(self) -> bool:
        return self.name.startswith("agent:")

    @property
    def reason(self) -> str:
        """The reason as text: `5 failures in 300 s, last: TODO-3 exit code 7`."""
        if self._is_limit:
            return self.why
        count = self.threshold if self.tripped else self.failures
        return f"{counted(count, 'failure')} in {self.window_s:g} s, last: {self.why}"

    @property
    def outlook(self) -> str:
        """The next event as text; "" while it is closed."""
        if self.probe:
            return f"{self.probe} probes it"
        if not self.tripped:
            return ""
        if self._is_limit:
            return f"until {shown(self.probe_at)}"
        return (
            f"probe at {shown(self.probe_at)}"
            if self.state is BreakerState.OPEN
            else "the next caller probes it"
        )


class Reset(FrozenModel):
    """A breaker that was closed by a person."""

    at: datetime
    name: str
    by: str
    state: BreakerState
    """State before the reset."""
    why: str
    """Description of the last failure before the reset."""


def shown(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "?"


def breaker_of(read: ListedBreaker, now_ms: int) -> Breaker:
    """Return the breaker from an answer of the step `breaker/list`. In Redis one stays open until a caller
    begins the probe, which it allows from the end of its open time on.
    """
    state = BreakerState(read["state"])
    if state is BreakerState.OPEN and int(read["until"]) <= now_ms:
        state = BreakerState.HALF_OPEN
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
        probe="" if (prober := read.get("prober")) and is_gone(prober) else read["probe_by"],
        behind=read["behind"],
    )


def is_gone(prober: Prober) -> bool:
    """Return whether the process that probes has ended; False if that cannot be determined on this host."""
    process = ProcessIdentity(host=prober["host"], pid=prober["pid"], started=prober["started"])
    return process.alive() is False


def reset_of(entry: str, words: Mapping[str, str]) -> Reset:
    return Reset.model_validate({"at": _moment(entry.partition("-")[0]), **words})


def _moment(ms: str) -> datetime | None:
    return datetime.fromtimestamp(int(ms) / 1000, UTC) if ms else None


@dataclass(frozen=True, kw_only=True)
class Policy:
    failures: int = 5
    """Number of failures within the window that opens the breaker; 0: it never opens."""
    window: timedelta = timedelta(seconds=300)
    open_for: timedelta = timedelta(seconds=60)

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        return cls(
            failures=settings.breaker_failures, window=settings.breaker_window, open_for=settings.breaker_open
        )

    @property
    def figures(self) -> tuple[int, int, int]:
        """The values as the Lua steps expect them, with durations in ms."""
        return self.failures, max(1, self.window // MS), max(1, self.open_for // MS)

    def words(self, without: Iterable[str] = ()) -> str:
        """Return the policy as stored with a run; `without` names the resources that have no breaker."""
        return " ".join(map(str, (*self.figures, *map(resource, without))))
