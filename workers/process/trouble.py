"""Tell trouble that passes (a killed git, a full disk, a lock, an absent Redis) from lasting refusals."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from itertools import repeat
from pathlib import Path
from typing import TypeVar

import redis

from coordination.backend.error_messages import cannot_write
from coordination.errors import CoordinationError, GitRefused
from coordination.retry import retried

T = TypeVar("T")
REDIS_RETRY_S = 0.5

logger = logging.getLogger(__name__)


class Trouble(StrEnum):
    """The reason for a failure that may pass."""

    KILLED = "killed"
    """git, or a program that it had started, was ended by a signal."""
    DISK = "disk"
    """No space, no quota, or an error of the device."""
    MACHINE = "machine"
    """Out of memory, processes or open files."""
    LOCKED = "locked"
    """Another git holds a lock file, or has left it."""
    MISSING = "missing"
    """A folder is not there."""
    DAMAGED = "damaged"
    """The worktree is damaged; it is made anew."""

    @property
    def is_of_the_folder(self) -> bool:
        """Return whether a todo's own command may have caused it."""
        return self in (Trouble.MISSING, Trouble.DAMAGED)


ENDED_BY_SIGNAL = frozenset({128 + 2, 128 + 9, 128 + 15})
"""git's exit code after a git that it had started was interrupted, killed or terminated.

129 is a usage error.
"""

_BY_ERRNO: Mapping[int, Trouble] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS), Trouble.DISK),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EINTR), Trouble.MACHINE),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE), Trouble.MISSING),
}
# Under LC_ALL=C git ends such a line with the system's own message; no file name follows.
_BY_OUTPUT: tuple[tuple[re.Pattern[str], Trouble], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), trouble)
    for pattern, trouble in (
        (r"\bdied of signal \d+", Trouble.KILLED),
        (r": (No space left on device|Disk quota exceeded|Input/output error|Read-only file system)\.?$",
            Trouble.DISK),
        (r"^fatal: \S+ file '.*' write error\. Out of diskspace$", Trouble.DISK),
        # the others give a reason of their own
        (r"^error: unable to write file (?!.*: [A-Z][a-z][-\w /]*$)", Trouble.DISK),
        (r": (Cannot allocate memory|Resource temporarily unavailable|Too many open files( in system)?)\.?$",
            Trouble.MACHINE),
        (r"^fatal: Out of memory, ", Trouble.MACHINE),
        (r"Unable to create '.*\.lock': File exists\.?$", Trouble.LOCKED),
        (r"could not lock config file .*: File exists\.?$", Trouble.LOCKED),
        (r"Unable to read current working directory: ", Trouble.MISSING),
        (r": Stale file handle\.?$", Trouble.MISSING),
        (r"^fatal: (not a git repository\b|invalid gitfile format|this operation must be run in a work tree)",
            Trouble.DAMAGED),
        (r"^(fatal|error): (index file (corrupt|smaller than expected)|bad (index file sha1 )?signature)",
            Trouble.DAMAGED),
        # `git add` with core.fsyncMethod=batch ends with 0 where a full disk has kept objects from their
        # place.
        (r"^error: invalid object [0-7]{6} [0-9a-f]+ for '", Trouble.DAMAGED),
        (r"^fatal: ((unexpected )?missing (blob|tree) object '|bad tree object |unable to read tree )"
            "[0-9a-f(]+",
            Trouble.DAMAGED),
    )
)  # fmt: skip


def trouble_of_git(exit_code: int, output: str) -> Trouble | None:
    """Return the trouble behind git's exit code (negative for a signal) and output (LC_ALL=C); None if git
    has refused for good.
    """
    if exit_code == 0:
        return None
    if exit_code < 0:
        return Trouble.KILLED
    known = next((trouble for pattern, trouble in _BY_OUTPUT if pattern.search(output)), None)
    return Trouble.KILLED if known is None and exit_code in ENDED_BY_SIGNAL else known


def trouble_of_error(error: OSError) -> Trouble | None:
    """Return the trouble behind an error of the system; None for one that lasts, such as missing rights."""
    return None if error.errno is None else _BY_ERRNO.get(error.errno)


class GitInterrupted(GitRefused):
    """Git was stopped by passing trouble, such as a full disk."""

    def __init__(self, trouble: Trouble, message: str = "", hint: str = "") -> None:
        self.trouble = trouble
        super().__init__(message, hint or "nothing to do: the todo is tried again by itself")


class GitTimeout(GitRefused):
    """Git did not end in time, and was killed with the processes that it had started."""


class WorkspaceUnusable(CoordinationError):
    """The workspace's folder cannot be written."""

    def __init__(self, message: str, hint: str = "", trouble: Trouble | None = None) -> None:
        self.trouble = trouble
        """None: the trouble lasts, such as missing rights."""
        super().__init__(message, hint)


@contextmanager
def describe_os_error(folder: Path) -> Iterator[None]:
    """Turn an OSError into an error that says what to do. Raises WorkspaceUnusable."""
    try:
        yield
    except OSError as error:
        hint = "free some space or correct the rights; the todo is tried again by itself"
        message = f"{error.filename or folder}: {error.strerror}"
        raise WorkspaceUnusable(message, hint, trouble_of_error(error)) from error


def until_answered(ask: Callable[[], T]) -> T:
    """Repeat a call until Redis answers, for ever: the outcome of an attempt must not be lost."""
    return retried(ask, repeat(REDIS_RETRY_S), _is_outage)


def _is_outage(error: Exception, _pause_s: float) -> bool:
    away = isinstance(error, redis.ConnectionError | redis.TimeoutError)
    if not away and not (isinstance(error, redis.RedisError) and cannot_write(error)):
        return False
    logger.warning("Redis does not answer, asking again: %s", error)
    return True
