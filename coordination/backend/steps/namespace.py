"""Declares the steps in lua/event, lua/fleet, lua/lease, lua/log and lua/queue."""

# No `from __future__ import annotations`: Step reads the types of the fields.
from collections.abc import Collection
from typing import Any, NamedTuple

from coordination.backend.steps.step import (
    OOM,
    NumberStep,
    Step,
    TextStep,
    TruthStep,
    VoidStep,
    checked,
    text,
)


class AppendEvent(TextStep, name="event/append", flags=OOM):
    """Returns the id of the event."""

    kind: str
    subject: str
    fields: Collection[tuple[str, str]]


class RequestEvents(NumberStep, name="event/request", flags=OOM):
    """Returns the number of kinds that are asked for now."""

    ttl_ms: int
    kinds: Collection[str]


ForwardedEvent = tuple[str, str, str, str, str, str]
"""Kind, subject, actor, repositories, title, and the whole event as JSON."""


class ForwardEvents(NumberStep, name="event/forward", flags=OOM):
    """Returns the number of events that were written."""

    source: str
    number: int
    """Number of the edit in the journal."""
    events: Collection[ForwardedEvent]


class TrimEvents(NumberStep, name="event/trim", flags=OOM):
    position: str


class Met(NamedTuple):
    version: str
    ecosystem: str


class Meet(Step[Met], name="fleet/meet", keys=4):
    """Returns the version and ecosystem of the namespace; those of the call if it was accepted."""

    version: str
    gone_after_ms: int
    ecosystem: str
    longest_id: int

    def read(self, reply: Any) -> Met:
        return Met(*reply)


class SetApart(TextStep, name="fleet/set_apart", keys=2, flags=OOM):
    """Returns the type that the key had; empty if nothing had to be done."""

    type: str
    kept_s: int


class Renewed(NamedTuple):
    lost: list[str]
    stopped: list[str]


class RenewLeases(Step[Renewed], name="lease/renew", keys=3, flags=OOM):
    lease_ms: int
    leases: Collection[tuple[str, int]]
    """Member and fence of each lease."""

    def read(self, reply: Any) -> Renewed:
        return Renewed(*reply)


class CorrectClockStep(TruthStep, name="lease/clock_step", keys=4, flags=OOM):
    """Returns False if another process has handled the step of the clock."""

    by_ms: int
    earliest_ms: int
    latest_ms: int
    lease_ms: int
    timers: Collection[tuple[str, int, int]]
    """Member, due time and new due time of each timer to move."""


class AppendLog(VoidStep, name="log/append"):
    attempt: int
    skipped: int
    head_bytes: int
    tail_bytes: int
    file: str
    text: str


class FetchedMessage(NamedTuple):
    queue: str
    message: str
    tag: str
    """Empty if the message was not recorded as unacknowledged."""


class Fetch(Step[FetchedMessage | None], name="queue/fetch", keys=3, flags=OOM):
    posted: str
    done: Collection[str]
    """Tags of finished messages."""
    queues: Collection[str]

    def read(self, reply: Any) -> FetchedMessage | None:
        return None if reply is None else FetchedMessage(*map(text, checked(list, reply)))
