"""Topics: dotted names under which anybody publishes events, and patterns by which others subscribe to them.

Events are live: nothing is kept for whoever is away. `*` in a pattern stands for one segment, `**` at its end for one or more:
`a.*` fits `a.b`, not `a` and not `a.b.c`; `a.**` fits both `a.b` and `a.b.c`.
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
"""Bytes of a payload as JSON: Redis holds an event for each subscriber that is slow."""
RESERVED = ("workers",)
"""Topics of coord's own."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Event:
    """What was published on a topic."""

    id: str
    """Of its publisher and its number: an event that comes twice has the same id."""
    topic: str
    type: str
    payload: Any
    sender: str
    at: datetime
    """By the server's clock."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Events may be missing here. `missed` is how many, or None where nobody knows."""

    missed: int | None = None


def topic(text: str) -> str:
    """Return a topic's name. Raises UsageError."""
    if ONE in names.name(text, "a topic"):
        raise UsageError(f"{text!r} is a pattern, not a topic", "publish on one topic, like a.b")
    return _in_segments(text, "a topic")


def pattern(text: str) -> str:
    """Return a pattern, or a topic's name, which fits itself. Raises UsageError."""
    *first, last = _in_segments(names.name(text, "a pattern"), "a pattern").split(".")
    if any(ONE in part and part != ONE for part in first) or (ONE in last and last not in (ONE, REST)):
        raise UsageError(f"{text!r} is no pattern", "write * for one whole segment, ** for the rest, like a.* or a.**")
    return text


def _in_segments(text: str, what: str) -> str:
    segments = text.split(".")
    if "" in segments or len(segments) > MOST_SEGMENTS:
        raise UsageError(f"{text!r} is no name of {what}", f"write 1 to {MOST_SEGMENTS} words with dots between them")
    return text


def fits(wanted: str, name: str) -> bool:
    """Whether a pattern fits a topic's name."""
    patterns = Patterns[bool]()
    patterns.add(wanted, True)
    return next(patterns.of(name), False)


def covers(wider: str, wanted: str) -> bool:
    """Whether each topic that fits `wanted` fits `wider`."""
    return fits(wider, wanted) and (not wanted.endswith(REST) or wider.endswith(REST))


@dataclass
class Patterns(Generic[T]):
    """Who subscribed to what, found by an event's topic: as a tree by segments, so that the cost does not grow with the clients."""

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
        """Yield whoever has a pattern that fits, once for each pattern."""
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
    """Return the event that the step `message/broadcast` published; None for what is none: others can write there, too."""
    head, _, body = text.partition("\n")
    words = head.split(" ")
    try:
        at_ms, identity, kind = words
        at = datetime.fromtimestamp(int(at_ms) / 1000, UTC)
        payload = from_json(body, allow_inf_nan=False)
    except (ValueError, OverflowError, OSError):
        return None
    sender = identity.rpartition("/")[0]
    return Event(id=identity, topic=name, type=kind, payload=payload, sender=sender, at=at)
