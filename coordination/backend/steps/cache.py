"""Declares the steps in lua/cache. Replies are read from clients that decode and from those that do not."""

# No `from __future__ import annotations`: Step reads the types of the fields.
from collections.abc import Collection
from typing import Any, NamedTuple

from coordination.backend.steps.step import OOM, READS, NumberStep, Step, TextsStep, TextStep, checked, text


class Found(NamedTuple):
    word: str
    """`hit`, `hidden` or `miss`."""
    place: int
    """Number of the context that has the key, from 1; the last one on a miss."""
    value: bytes
    left_ms: int
    generations: tuple[int, ...]
    """Generation of each context."""


class Get(Step[Found], name="cache/get"):
    key: str
    policy: str
    local_hits: int
    """Reads since the last call that this process answered itself."""
    contexts: Collection[str]
    """The innermost first."""

    def read(self, reply: Any) -> Found:
        word, place, value, left_ms, *generations = checked(list, reply)
        return Found(text(word), int(place), value, int(left_ms), tuple(map(int, generations)))


class Written(NamedTuple):
    word: str
    """`kept`, `there`, `more` or `none`."""
    generation: int


class Put(Step[Written], name="cache/put"):
    context: str
    key: str
    digest: str
    value: bytes
    ttl_ms: int
    policy: str
    max_bytes: int
    mode: str
    """`new`: write only a key without a value."""

    def read(self, reply: Any) -> Written:
        word, generation = checked(list, reply)
        return Written(text(word), int(generation))


class Hide(TextStep, name="cache/hide"):
    """Returns `kept`, `there`, `more` or `none`."""

    context: str
    key: str
    ttl_ms: int
    policy: str
    max_bytes: int
    mode: str


class Deleted(NamedTuple):
    deleted: int
    """Number of handled keys that had a value."""
    generation: int
    handled: int
    """Number of keys that were handled. The others need another call, after which more is evicted."""


class Delete(Step[Deleted], name="cache/delete", flags=OOM):
    ttl_ms: int
    policy: str
    max_bytes: int
    contexts: Collection[str]
    keys: Collection[str]

    def read(self, reply: Any) -> Deleted:
        return Deleted(*map(int, checked(list, reply)))


class Drop(TextsStep, name="cache/drop", flags=OOM):
    """Returns the contexts that still have entries."""

    contexts: Collection[str]


class Expire(NumberStep, name="cache/expire", flags=OOM):
    limit: int


class VisibleValues(NamedTuple):
    omitted: int
    values: dict[str, str]
    """Key → JSON."""


class Visible(Step[VisibleValues], name="cache/visible", flags=READS):
    limit_bytes: int
    contexts: Collection[str]

    def read(self, reply: Any) -> VisibleValues:
        omitted, *words = checked(list, reply)
        texts = list(map(text, words))
        return VisibleValues(omitted, dict(zip(texts[::2], texts[1::2], strict=True)))
