"""Topics: dotted names for events, and patterns to subscribe to them.

Events are live and not stored. In a pattern, `*` stands for one segment, `**` at its end for one or more:
`a.*` matches `a.b`, but not `a` or `a.b.c`; `a.**` matches both `a.b` and `a.b.c`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic_core import from_json

from coordination.errors import UsageError
from coordination.messages import names

ONE, REST = "*", "**"
MOST_SEGMENTS = 8
LARGEST_EVENT = 256 * 1024
"""Bytes of a payload as JSON; Redis buffers events for each slow subscriber."""
OF_COORD = "events"
"""First word of the topics on which a gateway passes on the events of coord; nobody publishes on them."""
RESERVED = ("workers",)
"""Topics that only coord publishes."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event that was published on a topic."""

    id: str
    """Publisher and number: equal for duplicates of an event."""
    topic: str
    type: str
    payload: Any
    sender: str
    at: datetime
    """Time by the server's clock."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A place where events may be missing: `missed` of them, or None if the number is unknown."""

    missed: int | None = None
    first: str = ""
    """Id of the first event of coord that is there again, if older ones were deleted before they were
    read."""


def topic(text: str) -> str:
    """Return a valid topic. Raises UsageError."""
    if ONE in names.name(text, "a topic"):
        raise UsageError(f"{text!r} is a pattern, not a topic", "publish on one topic, like a.b")
    return _check_segments(text, "a topic")


def pattern(text: str) -> str:
    """Return a valid pattern; a topic is a pattern that matches itself. Raises UsageError."""
    *first, last = _check_segments(names.name(text, "a pattern"), "a pattern").split(".")
    if any(ONE in part and part != ONE for part in first) or (ONE in last and last not in (ONE, REST)):
        raise UsageError(
            f"{text!r} is not a pattern", "write * for one whole segment, ** for the rest, like a.* or a.**"
        )
    return text


def _check_segments(text: str, what: str) -> str:
    segments = text.split(".")
    if "" in segments or len(segments) > MOST_SEGMENTS:
        raise UsageError(
            f"{text!r} is not a name of {what}", f"write 1 to {MOST_SEGMENTS} words with dots between them"
        )
    return text


def is_of_coord(name: str) -> bool:
    """Return whether a topic or pattern names the events of coord; `**` does not."""
    return name.partition(".")[0] == OF_COORD


def fits(wanted: str, name: str) -> bool:
    """Return whether a pattern matches a topic."""
    patterns = Patterns[bool]()
    patterns.add(wanted, True)
    return next(patterns.of(name), False)


def covers(wider: str, wanted: str) -> bool:
    """Return whether every topic that `wanted` matches is also matched by `wider`."""
    return fits(wider, wanted) and (not wanted.endswith(REST) or wider.endswith(REST))


@dataclass
class Patterns(Generic[T]):
    """Subscribers by pattern, as a tree of segments, so that the cost of a lookup does not grow with the
    number of clients.
    """

    _below: dict[str, Patterns[T]] = field(default_factory=dict)
    _here: set[T] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self._below)

    def add(self, wanted: str, who: T) -> None:
        node = self
        for segment in wanted.split("."):
            node = node._below.setdefault(segment, Patterns())
        node._here.add(who)

    def remove(self, wanted: str, who: T) -> None:
        self._remove(wanted.split("."), who)

    def of(self, name: str) -> Iterator[T]:
        """Yield the subscribers with a matching pattern, once per pattern."""
        yield from self._of(name.split("."))

    def _remove(self, segments: list[str], who: T) -> None:
        if not segments:
            self._here.discard(who)
        elif segments[0] in self._below:
            node = self._below[segments[0]]
            node._remove(segments[1:], who)
            if not node._here and not node:
                del self._below[segments[0]]

    def _of(self, segments: list[str]) -> Iterator[T]:
        if not segments:
            yield from self._here
            return
        if REST in self._below:
            yield from self._below[REST]._here
        for segment in (segments[0], ONE):
            if segment in self._below:
                yield from self._below[segment]._of(segments[1:])


def read_event(name: str, text: str) -> Event | None:
    """Return the event that `message/broadcast` published; None for foreign data, because other programs can
    publish, too.
    """
    head, _, body = text.partition("\n")
    words = head.split(" ")
    try:
        at_ms, identity, type = words
        at = datetime.fromtimestamp(int(at_ms) / 1000, UTC)
        payload = from_json(body, allow_inf_nan=False)
    except (ValueError, OverflowError, OSError):
        return None
    sender = identity.rpartition("/")[0]
    return Event(id=identity, topic=name, type=type, payload=payload, sender=sender, at=at)
