"""Requests: their names and terms, validated before they are sent, and the identity of their owner."""

from __future__ import annotations

import os
import reprlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cached_property, lru_cache
from hashlib import blake2b

from coordination.backend.keys import lock, resource
from coordination.durations import MS
from coordination.errors import UsageError
from coordination.processes import ProcessIdentity, this_process

LONGEST_NAME = 255
LONGEST_TTL = timedelta(days=366)
HIGHEST_PRIORITY = 1000
MOST = 1_000_000_000
"""Largest amount of a resource: Lua counts in doubles and does not write larger numbers as integers."""
TTL = timedelta(seconds=10)
WAIT = timedelta(seconds=5)

# Names of the locks that coord takes for itself; lists hide them unless asked.
START = "start"
"""Held while a run is submitted."""
LEADER = "keeper"
"""Held by the maintenance leader."""
HEALTH = "health"
"""Held by the worker that watches the health of all."""
ISSUES = "issue-sync"
"""Held while the issues of the file are synchronised with those of forges."""
RESULT = "cache:"
"""Prefix: a todo whose result is being computed for the result cache."""
COMPUTED = "cache "
"""Prefix: a cached value that one process computes while others wait."""


@dataclass(frozen=True, slots=True)
class LockTerms:
    """Terms of a request. Raises UsageError for invalid values."""

    ttl: timedelta = TTL
    wait: timedelta = WAIT
    owner: str = ""
    """Label for people."""
    priority: int = 0
    """A step of priority weighs as much as 5 s of waiting."""
    keep: bool = True
    """A thread renews the lock; otherwise the caller must."""

    def __post_init__(self) -> None:
        if not isinstance(self.ttl, timedelta) or not MS <= self.ttl <= LONGEST_TTL:
            raise UsageError(f"invalid ttl: {self.ttl}", "give a duration from 1 ms to a year")
        if not isinstance(self.wait, timedelta) or self.wait < timedelta(0):
            raise UsageError(f"invalid wait: {self.wait}", "pass a timedelta of 0 (a single try) or longer")
        if not is_whole(self.priority, -HIGHEST_PRIORITY, HIGHEST_PRIORITY):
            raise UsageError(
                f"invalid priority: {reprlib.repr(self.priority)}",
                f"pass a whole number up to ±{HIGHEST_PRIORITY}",
            )
        if self.owner:
            check_name("owner's label", self.owner)

    @property
    def ttl_ms(self) -> int:
        return self.ttl // MS


def check_name(what: str, name: object) -> None:
    """Raise UsageError for an invalid name, because messages and lists show it and Redis
    keeps it in a key.
    """
    if not isinstance(name, str) or not name:
        raise UsageError(f"the {what} must be non-empty text, got {name!r}", "pass a name")
    if len(name) > LONGEST_NAME:
        raise UsageError(
            f"the {what} has {len(name):,} characters", f"use at most {LONGEST_NAME}, for example a digest"
        )
    if not name.isprintable():
        raise UsageError(f"the {what} {name!r} contains invisible characters", "remove them")


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of locks without duplicates. Raises UsageError."""
    if isinstance(names, str):
        raise UsageError(f"{names!r} is one name", "pass a list, or use acquire")
    unique = tuple(dict.fromkeys(names))
    if not unique:
        raise UsageError("no names were given", "name a lock")
    for name in unique:
        check_name("lock's name", name)
    return unique


def of_locks(names: Iterable[str], *, shared: bool) -> tuple[str, ...]:
    mode = "s" if shared else "x"
    return tuple([f"{mode} {lock(name)}" for name in names])


def of_resources(wanted: Mapping[str, int]) -> tuple[str, ...]:
    if not wanted:
        raise UsageError("no amounts were given", "name a resource")
    for name, amount in wanted.items():
        check_name("resource's name", name)
        if not is_whole(amount, 1, MOST):
            raise UsageError(
                f"invalid amount of {name}: {reprlib.repr(amount)}", f"pass a whole number from 1 to {MOST:,}"
            )
    return tuple(f"{amount}/0 {resource(name)}" for name, amount in wanted.items())


def check_capacity(name: str, capacity: object) -> None:
    """Raise UsageError for an invalid capacity."""
    if not is_whole(capacity, 0, MOST):
        raise UsageError(
            f"invalid capacity of {name}: {reprlib.repr(capacity)}", f"pass a whole number from 0 to {MOST:,}"
        )


def is_whole(number: object, least: int, most: int) -> bool:
    """Return whether this is an integer in the range. True does not count, although it equals 1: Redis would
    receive the word.
    """
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most


@dataclass(frozen=True, kw_only=True)
class Owner(ProcessIdentity):
    """A thread that holds locks or waits for them."""

    thread: int
    label: str = ""
    """Text for people."""

    @cached_property
    def party(self) -> str:
        """Short id of the thread, which waits and is waited for as one party, whatever its label."""
        thread = (self.host, str(self.pid), self.started, str(self.thread))
        return blake2b("\n".join(thread).encode(), digest_size=8).hexdigest()

    @cached_property
    def values(self) -> tuple[str, ...]:
        return tuple(map(str, asdict(self).values()))

    @cached_property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """Names and values of the fields."""
        return tuple(zip(asdict(self), self.values, strict=True))

    def __str__(self) -> str:
        return f"{self.label or 'a process'} (process {self.pid} on {self.host})"


def current_owner(label: str = "") -> Owner:
    """Return the owner for the current thread."""
    return _owner(os.getpid(), threading.get_native_id(), label)


@lru_cache(maxsize=1024)
def _owner(pid: int, thread: int, label: str) -> Owner:
    return Owner(**vars(this_process()), thread=thread, label=label)


def holder_words(request: Mapping[str, object]) -> str:
    """Describe the fields of a request: `process 12 on anvil (build)`, or `TODO-1 of run 20261121-1`."""
    if request.get("kind") == "todo":
        run, _, todo = str(request["id"]).partition(" ")
        return f"{todo} of run {run}"
    pid, thread, label = (request.get(field, "") for field in ("pid", "thread", "label"))
    text = f"process {pid or '?'} on {request.get('host') or '?'}"
    if thread and thread != pid:  # not the main thread
        text += f", thread {thread}"
    return f"{text} ({label})" if label else text


def is_internal(name: str) -> bool:
    """Tell whether coord takes the lock of this name for itself."""
    internal = (START, LEADER, HEALTH, ISSUES)
    return name in internal or name.startswith((RESULT, COMPUTED))
