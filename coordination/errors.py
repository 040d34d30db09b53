"""Everything that coord refuses, as one tree.

CoordinationError                1
├── UsageError                   2   the call's words are off
│   ├── InvalidFile              2   ecosystem.yaml cannot be used: every problem, with its line
│   ├── NotFound                 2   no such plan, todo, repo or run
│   └── PlanRefused              2   a cycle, an unknown blocker, an undeclared repo, no agent …
├── Unreadable                   1   records in Redis that are none of coord's, or damaged
├── NotAllowed                   4
├── Blocked                      5   held up from outside; nothing failed
│   └── BreakerOpen              5   what is called has failed too often of late
├── Conflict                     6
│   ├── EditConflict             6   somebody else changed the file in between
│   └── LockError                6
│       ├── LockTimeout          6   not granted within the wait
│       ├── DeadlockError        6   chosen to give way: waiting would never have ended
│       └── LockLost             6   held by somebody else by now, or expired
│           └── StaleFence       6   somebody with a newer fence has written since
├── Unreachable                  7   Redis or a worker does not answer
│   ├── NoReply                  7   a message was sent, and nobody replied in time
│   └── Unusable                 7   Redis answers, and waiting helps no more: password, certificate, version …
└── GitRefused                   1   git said no; its own words are in the message

The number is the exit code. `message` says what is wrong, `hint` what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


class CoordinationError(Exception):
    """Something went wrong in coord."""

    exit_code = 1

    def __init__(self, message: str = "", hint: str = "") -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(CoordinationError):
    """The call's words are off."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong in the file; `line` counts from 1, 0 where no line can be named."""

    file: str
    line: int
    where: str
    message: str
    value: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        value = f", got {self.value}" if self.value else ""
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{place}: {self.where}: {self.message}{value}{hint}"


class InvalidFile(UsageError):
    """The ecosystem file cannot be used."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems), "correct the lines above, then: coord validate")


class NotFound(UsageError):
    """There is nothing of that name."""


class PlanRefused(UsageError):
    """The plan cannot be carried out as it stands."""


class Unreadable(CoordinationError):
    """Records in Redis cannot be read."""


class NotAllowed(CoordinationError):
    """A policy does not allow that."""

    exit_code = 4


class Blocked(CoordinationError):
    """Held up from outside; nothing failed."""

    exit_code = 5


class BreakerOpen(Blocked):
    """What is called has failed too often of late."""

    def __init__(self, message: str = "", hint: str = "", retry_at: datetime | None = None) -> None:
        self.retry_at = retry_at
        """When to ask again: one may try then."""
        super().__init__(message, hint)


class Conflict(CoordinationError):
    """Somebody else was there first."""

    exit_code = 6


class EditConflict(Conflict):
    """The file was changed by somebody else in between."""


class LockError(Conflict):
    """The lock was not granted."""


class LockTimeout(LockError):
    """The lock was not granted within the wait."""

    def __init__(self, message: str = "", hint: str = "", holders: Sequence[str] = ()) -> None:
        self.holders = tuple(holders)
        """Their labels, of those that have one."""
        super().__init__(message, hint)


class DeadlockError(LockError):
    """Those who wait for each other would wait for ever, and this one gives way."""

    def __init__(self, message: str = "", hint: str = "", cycle: Sequence[tuple[str, str]] = ()) -> None:
        self.cycle = tuple(cycle)
        """Each of them in words, and the name that it waits for: the next one holds it."""
        super().__init__(message, hint)


class LockLost(LockError):
    """The lock is no longer ours."""


class StaleFence(LockLost):
    """Somebody with a newer fence has written since."""


class Unreachable(CoordinationError):
    """Redis or a worker does not answer."""

    exit_code = 7


class NoReply(Unreachable):
    """Nobody replied in time."""


class Unusable(Unreachable):
    """Redis is there and cannot be used as it is."""


class GitRefused(CoordinationError):
    """Git refused."""
