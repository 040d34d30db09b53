"""The health of a subject: a repository, its remote, a service, a host's disks."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from coordination.breakers.records import BreakerState
from coordination.frozen import FrozenModel
from coordination.models import Word


class Kind(Word):
    """Kinds of subjects."""

    REPO = "repo"
    """A repository: its folder and git on each host that serves it, a living worker, and its queue."""
    REMOTE = "remote"
    """The remote of a repository."""
    SERVICE = "service"
    DISK = "disk"
    """Free space on a host."""


class HealthState(Word):
    """State of a subject."""

    UNKNOWN = "unknown"
    """Nothing has looked at it yet."""
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """The last look failed; the next one follows soon."""
    FAILED = "failed"
    """All tries of a look failed."""
    RECOVERING = "recovering"
    UNREACHABLE = "unreachable"
    """All tries failed without a report: its worker, its supervisor or its remote does not answer."""
    FLAPPING = "flapping"
    """It has changed between healthy and not healthy too often within ten minutes."""
    DISCONNECTED = "disconnected"
    """A person has disconnected its repository: it is neither checked nor recovered."""


DOWN = (HealthState.FAILED, HealthState.RECOVERING, HealthState.UNREACHABLE)
"""States of a subject that does not work."""


class Overall(Word):
    """State of all subjects together."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """A subject that is not required is down."""
    CRITICAL = "critical"
    """A required subject is down, or no monitor reports."""


class Subject(FrozenModel):
    """A subject to check."""

    kind: Kind
    name: str
    """Name of the repository, the service or the host."""
    repo: str = ""
    """Its repository; empty for a disk."""
    required: bool = False
    recoverable: bool = False
    """A service that can be restarted, or a repository with a command to recover it."""
    connected: bool = True

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def breaker(self) -> str:
        """Name of the circuit breaker of its recovery: `action:recover.service.web`."""
        return f"action:recover.{self.kind}.{self.name}"[: len("action:") + 100]


class Look(FrozenModel):
    """The result of one look."""

    healthy: bool
    why: str = ""
    """Reason why it is not healthy."""
    method: str = ""
    """The source of the look, such as `git ls-remote`."""
    latency_s: float | None = None
    reported: bool = True
    """False if no process reports the state of the subject."""
    final: bool = False
    """True if the reporting process has already made all tries."""


class Health(FrozenModel):
    """Health of a subject; times are in seconds since 1970."""

    subject: Subject
    verdict: HealthState = HealthState.UNKNOWN
    """State without flapping."""
    since: float
    """Time since which it has this verdict."""
    failed_at: float | None = None
    """Time at which it was found failed; None while it is healthy."""
    looked_at: float | None = None
    latency_s: float | None = None
    method: str = ""
    why: str = ""
    failures: int = 0
    """Failed looks in a row."""
    breaker: BreakerState = BreakerState.CLOSED
    changes: tuple[float, ...] = ()
    """Times of its changes between healthy and not healthy within the last ten minutes."""
    flapping: bool = False
    recovery_due: float | None = None
    """Time from which a recovery may begin."""
    recovery_from: float | None = None
    """Start of the present recovery."""
    run: str = ""
    """The run of the present or the last recovery."""
    vain: int = 0
    """Number of failed recoveries in a row."""
    vain_why: str = ""
    """Reason why the last recovery failed or could not start; empty if only the looks failed."""
    given_up: bool = False
    """True if it is not recovered again until it is healthy."""
    recovered: int = 0
    """Number of successful recoveries."""
    recovered_at: float | None = None
    recovery_s: float | None = None
    """Time from failed to healthy of the last recovery."""
    next_look: float = Field(default=0.0, exclude=True)

    @property
    def id(self) -> str:
        return self.subject.id

    @property
    def recovery_id(self) -> str:
        """Return the id of the present or next recovery for its breaker, which counts an id once. It stays
        the same until the recovery has failed or the subject is healthy.
        """
        return f"{self.id} {self.failed_at} {self.vain}"

    @property
    def state(self) -> HealthState:
        """Return the state that people see."""
        if not self.subject.connected:
            return HealthState.DISCONNECTED
        return HealthState.FLAPPING if self.flapping else self.verdict

    @property
    def is_down(self) -> bool:
        return self.subject.connected and self.verdict in DOWN

    @property
    def is_troubled(self) -> bool:
        """Return whether people are to look at it: it is down or flapping."""
        return self.is_down or self.state is HealthState.FLAPPING

    @property
    def reason(self) -> str:
        """Return the reason of its state; that of a flapping subject, too, while it is healthy."""
        if self.state is not HealthState.FLAPPING:
            return self.why
        changed = f"it became healthy or unhealthy {len(self.changes)} times within ten minutes"
        return f"{changed}; {self.why}" if self.why else changed


def overall(records: Iterable[Health]) -> Overall:
    """Return the state of all subjects: critical if a required one is down, degraded if another one is down
    or uncertain.
    """
    uncertain = (HealthState.FLAPPING, HealthState.UNKNOWN)
    found = [one for one in records if one.is_down or one.state in uncertain]
    if any(one.subject.required and one.is_down for one in found):
        return Overall.CRITICAL
    return Overall.DEGRADED if found else Overall.HEALTHY
