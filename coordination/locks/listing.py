"""Holders and waiters of all names at one moment, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from coordination.backend.keys import LockKeys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import lock as steps
from coordination.frozen import FrozenModel
from coordination.locks.request import Owner, holder_words, is_internal

AT_ONCE = 100
LOCK = "lock"


class _Request(FrozenModel):
    id: str
    who: str
    """Description: the process, or the todo of a run."""
    kind: str
    """`process` or `todo`."""
    host: str = ""
    pid: int | None = None
    started: str = ""
    thread: int | None = None
    label: str = ""
    amount: int = 1


class Holder(_Request):
    fence: int | None
    since: datetime | None
    age_s: float
    ttl_left_s: float | None
    """Seconds until it expires unless renewed; None if it is held until its release."""

    @property
    def alive(self) -> bool | None:
        """Return whether the holder's process runs; None if that cannot be determined from this host."""
        if self.kind == "todo" or self.pid is None:
            return None
        thread = self.thread or 0
        return Owner(
            host=self.host, pid=self.pid, started=self.started, thread=thread, label=self.label
        ).alive()


class Waiter(_Request):
    since: datetime | None
    waited_s: float
    priority: int


class Held(FrozenModel):
    """A name that is held or waited for."""

    what: str
    """`lock:x`, `resource:x`, `seat:x` or `land:x`."""
    kind: str
    name: str
    capacity: int | None = None
    """Capacity of a resource."""
    epoch: int
    """Time at which the data of this Redis began, in µs; a new value means that earlier data was lost."""
    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]
    """Waiting requests, the next one first."""

    @property
    def internal(self) -> bool:
        """Return whether coord takes this lock for itself."""
        return self.kind == LOCK and is_internal(self.name)


class Listing:
    def __init__(self, line: StepConnection, keys: LockKeys) -> None:
        self._line = line
        self._keys = keys

    def all(self) -> tuple[Held, ...]:
        found = [held for part in batches(self._line, self._keys.names) for held in self.of(part)]
        return tuple(
            sorted((h for h in found if h.holders or h.waiters), key=lambda held: (held.kind, held.name))
        )

    def of(self, names: Sequence[str]) -> Iterator[Held]:
        """Return the state of these names, which have a prefix, as in `lock:x`."""
        found = self._line(steps.ListNames(names=names), [self._keys.head])
        return (_held(name, found.epoch, found.now_ms) for name in found.names)


def batches(line: StepConnection, key: str) -> list[list[str]]:
    """Return the members of a set, sorted, in batches for a step each; reading and handling them in pieces
    blocks other clients only briefly.
    """
    members: set[str] = set()
    cursor = ""
    while cursor != "0":
        cursor, part = line.send("SSCAN", key, cursor or "0", "COUNT", AT_ONCE)
        members.update(part)
    names = sorted(members)
    return [names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)]


def _held(read: steps.ListedName, epoch: int, now_ms: float) -> Held:
    kind, _, name = read["name"].partition(":")
    return Held(
        what=read["name"],
        kind=kind,
        name=name,
        capacity=read["capacity"] or None,
        epoch=epoch,
        holders=tuple(_holder(request, now_ms) for request in read["holders"]),
        waiters=tuple(_waiter(request, now_ms) for request in read["waiters"]),
    )


def _holder(read: steps.ListedRequest, now_ms: float) -> Holder:
    since, expires_ms = read["since"], read["expires_in"]
    return Holder(
        **_description(read),
        fence=int(read["fence"]) if read["fence"] else None,
        since=_moment(since),
        age_s=_seconds(since, now_ms),
        ttl_left_s=None if expires_ms < 0 else expires_ms / 1000,
    )


def _waiter(read: steps.ListedRequest, now_ms: float) -> Waiter:
    arrived = read["arrived"]
    waited_s, priority = _seconds(arrived, now_ms), int(read["priority"] or 0)
    return Waiter(**_description(read), since=_moment(arrived), waited_s=waited_s, priority=priority)


def _description(read: steps.ListedRequest) -> dict[str, Any]:
    return {
        "id": read["id"],
        "who": holder_words(read),
        "kind": read["kind"] or "process",
        "host": read["host"],
        "pid": read["pid"] or None,
        "started": read["started"],
        "thread": read["thread"] or None,
        "label": read["label"],
        "amount": read["amount"],
    }


def _moment(ms: str) -> datetime | None:
    return datetime.fromtimestamp(int(ms) / 1000, UTC) if ms else None


def _seconds(since_ms: str, now_ms: float) -> float:
    return max(0.0, (now_ms - int(since_ms)) / 1000) if since_ms else 0.0
