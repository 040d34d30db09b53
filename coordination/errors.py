"""Exceptions that coord raises, as one tree.

CoordinationError                1
├── UsageError                   2   an argument, option or setting is invalid
│   ├── InvalidFile              2   ecosystem.yaml cannot be used: all problems, each with its line
│   ├── NotFound                 2   no plan, todo, repository or run of that name
│   ├── NotSupported             2   coord has no such thing, although an argument for it exists
│   └── PlanRefused              2   a cycle, an unknown blocker, an undeclared repository, no agent command …
├── Unreadable                   1   records in Redis are damaged or were not written by coord
├── NotAllowed                   4   a policy forbids the operation
│   ├── MissingRight             4   the roles of a person or program do not include the right
│   ├── NotTrusted               4   a signed document is refused; `cause` says why
│   └── Unsafe                   4   other users could change a file that decides whom to trust
├── Incomplete                   3   a plan or milestone lacks what `plan validate` names
├── Blocked                      5   something outside of the run prevents progress; nothing failed
│   └── BreakerOpen              5   the circuit breaker is open after repeated failures
├── Conflict                     6   another process or person acted first
│   ├── EditConflict             6   the file was changed during the edit
│   └── LockError                6   the lock was not granted
│       ├── LockTimeout          6   not granted within the wait
│       ├── DeadlockError        6   this request was chosen to give way in a cycle of waiting requests
│       └── LockLost             6   the lock expired or has another holder
│           └── StaleFence       6   a write with a newer fence has been accepted
├── Unreachable                  7   Redis or a worker does not answer
│   ├── NoReply                  7   a message was sent and no reply arrived in time
│   └── Unusable                 7   Redis answers, but retrying cannot help: password, certificate, version …
└── GitRefused                   1   a git command failed; the message contains its output

The number is the ExitCode of a command. `message` states the problem, `hint` the next step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    SUCCESS = 0
    ERROR = 1
    """An error, or the run was cancelled."""
    USAGE = 2
    """Wrong usage, or an invalid file."""
    FAILED = 3
    """Some todos failed, a check failed, a plan lacks something, or the run was rolled back."""
    NOT_ALLOWED = 4
    BLOCKED = 5
    """Blocked from outside, and nothing failed."""
    CONFLICT = 6
    """Conflict with somebody else's change, lock or result."""
    UNREACHABLE = 7
    """Redis or a worker does not answer."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C or SIGTERM."""


class CoordinationError(Exception):
    """The operation failed."""

    exit_code = ExitCode.ERROR

    def __init__(self, message: str = "", hint: str = "") -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(CoordinationError):
    """The command was used incorrectly."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem in the file; `line` counts from 1 and is 0 if no line is known."""

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
        super().__init__(
            "\n".join(str(p) for p in self.problems), "correct the lines above, then: coord validate"
        )


class NotFound(UsageError):
    """No record has that name."""


class PlanRefused(UsageError):
    """The plan cannot be executed as it is declared."""


class NotSupported(UsageError):
    """It is not supported."""


class Unreadable(CoordinationError):
    """Records in Redis cannot be read."""


class NotAllowed(CoordinationError):
    """A policy does not allow this."""

    exit_code = ExitCode.NOT_ALLOWED


class MissingRight(NotAllowed):
    """The roles of a person or program do not include the right."""


class TrustCause(StrEnum):
    """Causes of the refusal of a signed document."""

    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown_key"
    """The trust file does not contain the key."""
    REVOKED = "revoked"
    EXPIRED_KEY = "expired_key"
    EXPIRED = "expired"
    """The document is older than its time limit."""
    CLOCK = "clock"
    """The document or key is from the future: a clock is wrong."""
    WRONG_TYPE = "wrong_type"
    """It is a document of another type."""
    BROKEN = "broken"
    """The signature is over other bytes, or cannot be read."""
    REPEATED = "repeated"
    """The document was used before."""
    FOREIGN = "foreign"
    """The document is about another namespace, run or todo."""


class NotTrusted(NotAllowed):
    """A signed document is refused."""

    def __init__(self, cause: TrustCause, message: str = "", hint: str = "") -> None:
        self.cause = cause
        super().__init__(message, hint)


class Unsafe(NotAllowed):
    """Other users could change a file that decides whom to trust."""


class Incomplete(CoordinationError):
    """A plan or milestone cannot be completed: it lacks what `plan validate` names."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str = "", hint: str = "", findings: Sequence[str] = ()) -> None:
        self.findings = tuple(findings)
        """All that is missing, one sentence each."""
        super().__init__(message, hint)


class Blocked(CoordinationError):
    """Something outside of coord prevents progress; nothing has failed."""

    exit_code = ExitCode.BLOCKED


class BreakerOpen(Blocked):
    """The circuit breaker is open: the call behind it has failed too often recently."""

    def __init__(self, message: str = "", hint: str = "", retry_at: datetime | None = None) -> None:
        self.retry_at = retry_at
        """Time at which a new attempt is allowed."""
        super().__init__(message, hint)


class Conflict(CoordinationError):
    """Another process or person acted first."""

    exit_code = ExitCode.CONFLICT


class EditConflict(Conflict):
    """The file was changed by another writer during the edit."""


class LockError(Conflict):
    """The lock was not granted."""


class LockTimeout(LockError):
    """The lock was not granted within the wait."""

    def __init__(self, message: str = "", hint: str = "", holders: Sequence[str] = ()) -> None:
        self.holders = tuple(holders)
        """Labels of the holders that have one."""
        super().__init__(message, hint)


class DeadlockError(LockError):
    """The lock request was part of a deadlock and was cancelled to resolve it."""

    def __init__(self, message: str = "", hint: str = "", cycle: Sequence[tuple[str, str]] = ()) -> None:
        self.cycle = tuple(cycle)
        """The members of the cycle: each request's description, and the name it waits for, which the next
        member holds.
        """
        super().__init__(message, hint)


class LockLost(LockError):
    """The lock was lost: it expired or has another holder."""


class StaleFence(LockLost):
    """A write with a newer fence has been accepted."""


class Unreachable(CoordinationError):
    """Redis or a worker does not answer."""

    exit_code = ExitCode.UNREACHABLE


class NoReply(Unreachable):
    """No reply arrived in time."""


class Unusable(Unreachable):
    """Redis answers but cannot be used in its present configuration."""


class GitRefused(CoordinationError):
    """A git command failed."""
