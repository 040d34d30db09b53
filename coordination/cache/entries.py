"""Values by key, as bytes: for whoever keeps what can be made again.

Entries of contexts in Redis: bytes under a key. Each call is one Lua step, or a few where much has to make room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from redis import Redis

from coordination.backend.client import ANSWER_S
from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import Word
from coordination.cache.limits import MS, Limits
from coordination.cache.names import Chain, check_contexts, check_key, check_value, store
from coordination.errors import CoordinationError

RESULTS = "results"
"""Of todos with a `cache`: what they came to (workers/reuse)."""


class Store:
    """One of a name in the namespace; all of them, and the contexts, share the size of the cache. Equal values are kept once.

    Raises UsageError for a key or value that is none, Unreachable.
    """

    def __init__(self, redis: Redis, namespace: str, name: str, limits: Limits | None = None) -> None:
        self._entries = Entries(redis, namespace, limits or Limits())
        self._contexts = check_contexts((store(name),))

    def put(self, key: str, value: bytes, ttl: timedelta | None = None) -> None:
        """Raises NoRoom, too."""
        self._entries.put(self._contexts[0], check_key(key), value, ttl)

    def get(self, key: str) -> bytes | None:
        """None where it was never put, has expired, or was evicted. It counts as used."""
        return self._entries.get(check_key(key), self._contexts).value

    def delete(self, key: str) -> bool:
        """Whether there was one."""
        gone, _ = self._entries.delete(self._contexts, [check_key(key)])
        return gone == 1

    def clear(self) -> None:
        """All of them."""
        self._entries.drop(self._contexts)

    def close(self) -> None:
        self._entries.close()


KEYS_AT_ONCE = 500
BYTES_A_SECOND = 1024 * 1024
"""Of a slow line: so much longer a value may take to be sent. One that is received may take its time, as long as it comes."""


class NoRoom(CoordinationError):
    """The cache is full of what cannot be evicted."""


@dataclass(frozen=True, slots=True)
class Answer:
    value: bytes | None
    """None: no context has the key, or one of them hides it."""
    place: int
    """Which of the contexts said so, from 0; the last one on a miss."""
    left: timedelta
    """Until it expires; nothing on a miss."""
    generations: tuple[int, ...]
    """Of each context, at the moment of the answer."""

    @property
    def found(self) -> bool:
        """Whether a context had the key, be it to hide it."""
        return self.left > timedelta(0)


def drop(step: Callable[[Sequence[Word]], Sequence[Word]], contexts: Iterable[str]) -> None:
    """All that contexts hold, by the step `cache/drop`, which takes a piece and says which of them have something left."""
    left: list[Word] = list(contexts)
    while left:
        left = [*step(left[:KEYS_AT_ONCE]), *left[KEYS_AT_ONCE:]]


class Entries:
    """For any number of threads. Raises Unreachable."""

    def __init__(self, redis: Redis, namespace: str, limits: Limits) -> None:
        self.line = StepConnection(redis, decode=False)
        self.keys = Keys(namespace).cache
        self.limits = limits

    def get(self, key: str, contexts: Chain, local_hits: int = 0) -> Answer:
        word, place, value, left_ms, *generations = self._step("get", key, self.limits.eviction, local_hits, *contexts)
        return Answer(
            value=value if word == b"hit" else None,
            place=int(place) - 1,
            left=int(left_ms) * MS,
            generations=tuple(map(int, generations)),
        )

    def put(
        self, context: str, key: str, value: bytes, ttl: timedelta | None = None, *, only_new: bool = False
    ) -> int | None:
        """Returns the context's generation; with `only_new` None where the key has something already. Raises UsageError, NoRoom."""
        check_value(value, self.limits.value_bytes)
        limits, digest = self.limits, sha256(value).hexdigest()
        while True:
            word, generation = self._step(
                "put", context, key, digest, value, limits.ttl_ms(ttl), limits.eviction, limits.max_bytes,
                "new" if only_new else "", patience_s=ANSWER_S + len(value) / BYTES_A_SECOND,
            )  # fmt: skip
            if word != b"more":
                break
        if word == b"none":
            raise NoRoom(
                f"the value of {len(value):,} bytes does not fit into the cache of {limits.max_bytes:,}",
                "keep a smaller one, or raise cache_max_bytes",
            )
        return int(generation) if word == b"kept" else None

    def delete(self, contexts: Chain, keys: Sequence[str], ttl: timedelta | None = None) -> tuple[int, int]:
        """Out of the first of the contexts; what its outer ones have is hidden from it on, for the ttl. Returns how many of the
        keys had a value, and the generation. Raises NoRoom.
        """
        limits, gone, generation = self.limits, 0, 0
        for start in range(0, len(keys), KEYS_AT_ONCE):
            piece = keys[start : start + KEYS_AT_ONCE]
            terms = (limits.ttl_ms(ttl), limits.eviction, limits.max_bytes)
            count, generation = b"more", 0
            while count == b"more":
                count, generation = self._step("delete", *terms, len(contexts), *contexts, *piece)
            if count == b"none":
                raise NoRoom("there is no room to note what is hidden", "raise cache_max_bytes")
            gone += int(count)
        return gone, int(generation)

    def hide(self, context: str, key: str, ttl: timedelta, *, only_new: bool = False) -> bool:
        """Whatever outer contexts have. False where, with `only_new`, the key has something already. Raises NoRoom."""
        limits, word = self.limits, b"more"
        while word == b"more":
            mode = "new" if only_new else ""
            word = self._step("hide", context, key, limits.ttl_ms(ttl), limits.eviction, limits.max_bytes, mode)
        if word == b"none":
            raise NoRoom("there is no room to note what is hidden", "raise cache_max_bytes")
        return bool(word == b"kept")

    def drop(self, contexts: Iterable[str]) -> None:
        """All that they hold, and the contexts with it."""
        drop(lambda piece: self._step("drop", *piece), contexts)

    def expire(self) -> int:
        """Takes away what has expired; returns how many entries that were."""
        expired = 0
        while piece := self._step("expire", KEYS_AT_ONCE):
            expired += piece
        return expired

    def close(self) -> None:
        self.line.close()

    def _step(self, step: str, *args: Word, patience_s: float = ANSWER_S) -> Any:
        return self.line(f"cache/{step}", [self.keys.head], args, patience_s=patience_s)
