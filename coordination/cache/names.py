"""Validation of keys, patterns and contexts before they are sent; limits of size and lifetime."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from coordination.durations import MS
from coordination.errors import UsageError
from coordination.settings import Settings
from coordination.text import pattern_mistake

LONGEST_KEY = 255
NAMES_AT_ONCE = 1000
"""Names in one call of a todo or a restricted worker: the process that serves it also serves others."""
PATTERNS_AT_ONCE = 20
"""Patterns among those names, because each is matched against every visible key."""
REQUEST_SLACK_BYTES = 1024 * 1024
"""Size of a request for a context in addition to a value."""
GLOB = "*?[]"
"""Characters of patterns, which are not allowed in keys, so that both can be distinguished."""

_CLASS = re.compile(r"\[!?\]?[^\]]+\]")
_OPEN = re.compile(r"[\[\]]")


def check_key(key: object) -> str:
    """Return a valid key. Raises UsageError."""
    if not isinstance(key, str) or not key:
        raise UsageError(f"a key must be non-empty text, got {key!r}", "name it like a variable or a path")
    if len(key) > LONGEST_KEY:
        raise UsageError(
            f"a key has {len(key):,} characters", f"use at most {LONGEST_KEY}, for example a digest"
        )
    if not key.isprintable() or key != key.strip():
        raise UsageError(
            f"{key!r} is not a key", "remove line breaks, control characters and blanks at the ends"
        )
    if any(letter in GLOB for letter in key):
        raise UsageError(f"{key!r} is not a key: {' '.join(GLOB)} are for patterns", "remove them")
    return key


def packed(value: Any) -> bytes:
    """Return a value as JSON. Raises UsageError."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the value cannot be represented in JSON: {error}", "use numbers, text, lists and objects"
        ) from error


def check_value(value: bytes, most: int) -> None:
    """Raise UsageError if the value is too large."""
    if len(value) > most:
        raise UsageError(
            f"the value has {len(value):,} bytes, more than {most:,}",
            "store a path or a digest instead, or raise cache_value_bytes",
        )


def check_names(names: Sequence[str]) -> Sequence[str]:
    """Return the names. Raises UsageError if there are too many for one call."""
    if len(names) > NAMES_AT_ONCE:
        raise UsageError(f"{len(names):,} names in one call", f"pass at most {NAMES_AT_ONCE:,} per call")
    if (patterns := sum(map(is_pattern, names))) > PATTERNS_AT_ONCE:
        raise UsageError(f"{patterns} patterns in one call", f"pass at most {PATTERNS_AT_ONCE} per call")
    return names


def in_pieces(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the names in parts that are allowed in one call."""
    patterns = [name for name in names if is_pattern(name)]
    keys = [name for name in names if not is_pattern(name)]
    for some, most in ((keys, NAMES_AT_ONCE), (patterns, PATTERNS_AT_ONCE)):
        yield from (some[at : at + most] for at in range(0, len(some), most))


def check_request(asked: bytes, value_bytes: int) -> None:
    """Raise UsageError if the request is too large. Backslashes do not count: JSON within JSON has one before
    each quote.
    """
    if (size := len(asked) - asked.count(b"\\")) > value_bytes + REQUEST_SLACK_BYTES:
        raise UsageError(
            f"the request has {size:,} bytes", "store a path or a digest instead, and delete in parts"
        )


class Scope(StrEnum):
    """Scope of a context, the outermost first."""

    ECOSYSTEM = "ecosystem"
    PLAN = "plan"
    RUN = "run"
    TODO = "todo"


Chain = tuple[str, ...]
"""Names of a context and its outer ones, the innermost first."""


def chain_of(plan: str = "", runs: Sequence[str] = (), todo: str = "") -> Chain:
    """Return the chain of a context. `runs` is a run and those that it continues; `todo` belongs to the first
    run.
    """
    inner = [f"{Scope.TODO}/{runs[0]}/{todo}"] if todo and runs else []
    plans = [f"{Scope.PLAN}/{plan}"] if plan else []
    return check_contexts([*inner, *(f"{Scope.RUN}/{run}" for run in runs), *plans, Scope.ECOSYSTEM.value])


def outward(chain: Chain, scope: Scope | None) -> Chain:
    """Return the chain from the context of this scope outward. Raises UsageError if the chain has none."""
    if scope is None:
        return chain
    for place, context in enumerate(chain):
        if scope_of(context) == scope:
            return chain[place:]
    raise UsageError(
        f"there is no context of scope {scope} here",
        f"name the {scope}, or use one of: {', '.join(map(scope_of, reversed(chain)))}",
    )


def write_chain(chain: Chain) -> Chain:
    """Return the chain that a write without scope applies to; a todo writes to its run."""
    return chain[1:] if scope_of(chain[0]) == Scope.TODO else chain


def scope_of(context: str) -> str:
    return context.partition("/")[0]


def of_run(run_id: str, todos: Iterable[str]) -> Chain:
    """Return all contexts of a run and its todos."""
    return (f"{Scope.RUN}/{run_id}", *(f"{Scope.TODO}/{run_id}/{todo}" for todo in todos))


STORE = "bytes"
"""Prefix of stores, which distinguishes them from names of the tree."""


def store(name: str) -> str:
    """Return the context of a Store, outside of the tree."""
    return f"{STORE}/{name}"


def check_contexts(contexts: Sequence[str]) -> Chain:
    """Return valid context names, which become part of a Redis key. Raises UsageError."""
    for one in contexts:
        if (
            not one
            or not one.isprintable()
            or any(letter.isspace() for letter in one)
            or len(one) > 2 * LONGEST_KEY
        ):
            raise UsageError(f"{one!r} is not a context", "names of plans, runs and todos have no blanks")
    return tuple(contexts)


def check_pattern(pattern: str) -> str:
    """Return a valid shell pattern: `*`, `?`, `[a-z]`, `[!a-z]`. Raises UsageError."""
    if not pattern or len(pattern) > LONGEST_KEY or not pattern.isprintable():
        raise UsageError(f"{pattern!r} is not a pattern", "write one like build.* or part-[0-9]")
    if _OPEN.search(_CLASS.sub("", pattern)):
        raise UsageError(f"{pattern!r} is not a pattern: unbalanced [ or ]", "write one like part-[0-9]")
    return pattern


def matcher(pattern: str, regex: bool = False) -> Callable[[str], bool]:
    """Return a function that tells whether a key matches. Raises UsageError.

    A glob must match the whole key, a regular expression any part of it.
    """
    if not regex:
        glob = check_pattern(pattern)
        return lambda key: fnmatchcase(key, glob)
    if mistake := pattern_mistake(pattern):
        raise UsageError(f"{pattern!r} {mistake}", "correct it, or omit --regex for a pattern like build.*")
    search = re.compile(pattern).search
    return lambda key: search(key) is not None


def is_pattern(text: str) -> bool:
    return any(letter in GLOB for letter in text)


LONGEST_TTL = timedelta(days=366)


class Eviction(StrEnum):
    LRU = "lru"
    """Evict the least recently used."""
    LFU = "lfu"
    """Evict the least frequently used; past popularity fades."""
    TTL = "ttl"
    """Evict what would expire first."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    max_bytes: int = 100 * 1024 * 1024
    """Size of all distinct values, and of their entries."""
    ttl: timedelta = timedelta(hours=1)
    """Lifetime of a value that sets none."""
    eviction: Eviction = Eviction.LRU
    value_bytes: int = 8 * 1024 * 1024
    """Size of one value."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            max_bytes=settings.cache_max_bytes,
            ttl=settings.cache_ttl,
            eviction=Eviction(settings.cache_eviction),
            value_bytes=settings.cache_value_bytes,
        )

    def ttl_ms(self, ttl: timedelta | None) -> int:
        """Return the lifetime in ms. Raises UsageError."""
        lasts = self.ttl if ttl is None else ttl
        if not isinstance(lasts, timedelta) or not MS <= lasts <= LONGEST_TTL:
            raise UsageError(f"invalid ttl: {lasts}", "give a duration from 1 ms to a year")
        return lasts // MS
