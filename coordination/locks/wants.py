"""What is asked for, and on which terms: checked before anything is sent."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from coordination.backend.keys import lock, resource
from coordination.errors import UsageError

LONGEST_NAME = 255
LONGEST_TTL = timedelta(days=366)
HIGHEST_PRIORITY = 1000
MOST = 1_000_000_000
"""Of a resource: steps in Redis count in doubles, and write larger ones as no whole numbers."""
TTL = timedelta(seconds=10)
WAIT = timedelta(seconds=5)
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class LockTerms:
    """Raises UsageError."""

    ttl: timedelta = TTL
    wait: timedelta = WAIT
    owner: str = ""
    """A label for people."""
    priority: int = 0
    """A step of it weighs as much as 5 s of waiting."""
    keep: bool = True
    """A thread renews it; else whoever acquires it does."""

    def __post_init__(self) -> None:
        if not isinstance(self.ttl, timedelta) or not _MS <= self.ttl <= LONGEST_TTL:
            raise UsageError(f"a ttl of {self.ttl} is none", "from 1 ms to a year, as a timedelta")
        if not isinstance(self.wait, timedelta) or self.wait < timedelta(0):
            raise UsageError(f"one cannot wait for {self.wait}", "0 (one try) or longer, as a timedelta")
        if not is_whole(self.priority, -HIGHEST_PRIORITY, HIGHEST_PRIORITY):
            raise UsageError(
                f"a priority of {reprlib.repr(self.priority)} is none", f"a whole number up to ±{HIGHEST_PRIORITY}"
            )
        if self.owner:
            check_name("owner's label", self.owner)

    @property
    def ttl_ms(self) -> int:
        return self.ttl // _MS


def check_name(what: str, name: object) -> None:
    """Raises UsageError for what is no name: messages and lists show it, and Redis keeps it in a key."""
    if not isinstance(name, str) or not name:
        raise UsageError(f"the {what} is a text that is not empty, not {name!r}", "give it one")
    if len(name) > LONGEST_NAME:
        raise UsageError(
            f"the {what} of {len(name):,} characters is too long", f"at most {LONGEST_NAME}: a digest of it will do"
        )
    if not name.isprintable():
        raise UsageError(f"the {what} {name!r} has characters that cannot be seen", "take them out")


def each_once(names: Iterable[str]) -> tuple[str, ...]:
    """The names of locks."""
    if isinstance(names, str):
        raise UsageError(f"{names!r} is one name", "give a list, or use acquire")
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        raise UsageError("nothing is asked for", "name a lock")
    for name in wanted:
        check_name("lock's name", name)
    return wanted


def of_locks(names: Iterable[str], *, shared: bool) -> tuple[str, ...]:
    mode = "s" if shared else "x"
    return tuple([f"{mode} {lock(name)}" for name in names])


def of_resources(wanted: Mapping[str, int]) -> tuple[str, ...]:
    if not wanted:
        raise UsageError("nothing is asked for", "name a resource")
    for name, amount in wanted.items():
        check_name("resource's name", name)
        if not is_whole(amount, 1, MOST):
            raise UsageError(f"{reprlib.repr(amount)} of {name} is no amount", f"a whole number from 1 to {MOST:,}")
    return tuple(f"{amount}/0 {resource(name)}" for name, amount in wanted.items())


def check_capacity(name: str, capacity: object) -> None:
    """Raises UsageError."""
    if not is_whole(capacity, 0, MOST):
        raise UsageError(f"{reprlib.repr(capacity)} of {name} is no capacity", f"a whole number from 0 to {MOST:,}")


def is_whole(number: object, least: int, most: int) -> bool:
    """True is none, though Python counts it as 1: Redis would be sent the word."""
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most
