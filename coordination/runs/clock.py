"""The server's clock beside one of ours that nobody can set. Pure.

Leases and timers stand in Redis by its clock alone; that of a worker's machine counts nowhere. But Redis' own may be set, by
hand or by the machine's time service, or stand in a machine that slept. Forwards, every lease looks expired at once, though
its worker lives; backwards, the leases of the dead last too long, and a timer would wait for as long as the clock was set.

Python's monotonic clock stands still while a machine sleeps. That is wanted here: whoever wakes up on a laptop sees that
Redis' clock went on without it, and gives the other workers, that slept as well, the time to renew.

What is not seen: a step between the last look of a keeper that died and the first of one that was started after it, and steps
of less than a second. A step within one round does no harm: leases are lost by the time of the look before it.
"""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE_MS = 1000
DRIFT = 0.001
"""How far two clocks part that nobody sets: a time service slews by 0.0005 at most."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The clock was set, by so much; backwards is less than 0."""

    by_ms: int
    seen_ms: int
    """When that was seen, by the clock as it is now."""
    earliest_ms: int
    """Before which it was not, by the clock as it is now."""

    @property
    def is_back(self) -> bool:
        return self.by_ms < 0

    def moved(self, due_ms: int, since_ms: int | None, now_ms: int) -> int | None:
        """When a timer is due that was set at `since_ms` (None: nobody knows), so that it waits as long as it was meant to.

        None where it need not be moved: after a step forwards, if it is due, or if it was set since then.
        """
        if not self.is_back or due_ms <= now_ms:
            return None
        if since_ms is not None and self.earliest_ms <= since_ms <= now_ms:
            return None
        return due_ms + self.by_ms


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the server said its time was, between two moments of our clock in seconds."""

    server_ms: int
    asked_s: float
    answered_s: float


class ServerClock:
    def __init__(self) -> None:
        self._last: Look | None = None

    def look(self, new: Look) -> Step | None:
        """How far it was set since the last look, if it was."""
        last, self._last = self._last, new
        if last is None:
            return None
        went_ms = new.server_ms - last.server_ms
        least_ms = round((new.asked_s - last.answered_s) * 1000)
        most_ms = round((new.answered_s - last.asked_s) * 1000)
        allowed_ms = TOLERANCE_MS + most_ms * DRIFT
        beyond_ms = max(went_ms - most_ms, 0) or min(went_ms - least_ms, 0)
        if abs(beyond_ms) <= allowed_ms:
            return None
        return Step(by_ms=beyond_ms, seen_ms=new.server_ms, earliest_ms=new.server_ms - most_ms - TOLERANCE_MS)
