"""The layer in front of Redis: values that this process has read recently. The package's docstring explains
its validity.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from coordination.cache.entries import Answer
from coordination.cache.names import Chain

FRESH_FOR = timedelta(seconds=0.5)
"""Time for which an answer of Redis is used without asking again."""
MAX_BYTES = 16 * 1024 * 1024
OVERHEAD = 300
"""Estimated memory per entry, in bytes."""
CONTEXTS = 1000

Address = tuple[str, str]
"""A context and a key."""


@dataclass(slots=True)
class _Kept:
    value: bytes | None
    """None if the context does not have the key."""
    until: float

    @property
    def size(self) -> int:
        return OVERHEAD + len(self.value or b"")


@dataclass(slots=True)
class _Known:
    """Knowledge about a context. Times are of this process' monotonic clock."""

    generation: int
    asked_at: float
    """Time at which the newest answer with this generation was requested."""
    written_at: float = 0.0
    """Time of this process' last write; answers requested earlier may be older than it."""
    places: set[Address] = field(default_factory=set)


class Local:
    """The local layer. Thread-safe."""

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        fresh_for: timedelta = FRESH_FOR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._max_bytes = max_bytes
        self._fresh_for_s = fresh_for.total_seconds()
        self._guard = threading.Lock()
        self._kept: OrderedDict[Address, _Kept] = OrderedDict()
        self._known: dict[str, _Known] = {}
        self._bytes = 0
        self._hits = 0

    def get(self, key: str, contexts: Chain) -> bytes | None:
        """Return a valid value, or None to ask Redis; missing and hidden keys are always requested."""
        with self._guard:
            now = self.clock()
            for context in contexts:
                known, kept = self._known.get(context), self._kept.get((context, key))
                if (
                    known is None
                    or kept is None
                    or now - known.asked_at > self._fresh_for_s
                    or now >= kept.until
                ):
                    return None
                if kept.value is not None:
                    self._kept.move_to_end((context, key))
                    self._hits += 1
                    return kept.value
            return None

    def remember(self, key: str, contexts: Chain, answer: Answer, asked_at: float) -> None:
        """Keep an answer. `asked_at` is the time by `clock` before the request was sent."""
        with self._guard:
            if not all(
                self._confirm(*pair, asked_at) for pair in zip(contexts, answer.generations, strict=True)
            ):
                return
            if answer.value is None:
                return
            for context in contexts[: answer.place]:
                self._keep((context, key), _Kept(None, float("inf")))
            until = asked_at + answer.left.total_seconds()
            self._keep((contexts[answer.place], key), _Kept(answer.value, until))

    def invalidate(self, context: str, keys: tuple[str, ...] | list[str]) -> None:
        """Discard the keys after a write of this process, so that it reads its own write and
        no older answer.
        """
        with self._guard:
            known = self._known.get(context) or self._add_context(context, _Known(0, 0.0))
            known.written_at = self.clock()
            for key in keys:
                self._drop((context, key))

    def clear(self) -> None:
        """Discard everything, and every older answer, after this process has deleted contexts."""
        with self._guard:
            now = self.clock()
            self._kept.clear()
            self._bytes = 0
            for known in self._known.values():
                known.places.clear()
                known.written_at = now

    def take_hits(self) -> int:
        """Return the number of hits since the last call, for the figures in Redis."""
        with self._guard:
            hits, self._hits = self._hits, 0
            return hits

    @property
    def bytes(self) -> int:
        return self._bytes

    def _confirm(self, context: str, generation: int, asked_at: float) -> bool:
        """Validate what is kept of the context as of `asked_at`, or discard it. Returns False if the answer
        is outdated.
        """
        known = self._known.get(context)
        if known is None:
            self._add_context(context, _Known(generation, asked_at))
            return True
        if asked_at <= known.written_at or (asked_at < known.asked_at and generation != known.generation):
            return False
        if generation != known.generation:
            for place in tuple(known.places):
                self._drop(place)
            known.generation = generation
        known.asked_at = max(known.asked_at, asked_at)
        return True

    def _add_context(self, context: str, known: _Known) -> _Known:
        """Add a context; beyond CONTEXTS, forget everything first, which only causes additional requests."""
        if len(self._known) >= CONTEXTS:
            self._kept.clear()
            self._known.clear()
            self._bytes = 0
        self._known[context] = known
        return known

    def _keep(self, place: Address, kept: _Kept) -> None:
        self._drop(place)
        known = self._known.get(place[0])
        if known is None or kept.size > self._max_bytes:
            return
        self._kept[place] = kept
        known.places.add(place)
        self._bytes += kept.size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, place: Address) -> None:
        kept = self._kept.pop(place, None)
        if kept is not None:
            self._bytes -= kept.size
            self._known[place[0]].places.discard(place)
