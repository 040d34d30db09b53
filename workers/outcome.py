"""What an attempt came to: for the step that records it, for Celery and Flower, and for a retry policy, which sees how a command ended
and the end of what it wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from threading import Event

from coordination.dependencies.versions import fits_a_line
from coordination.runs.records import Blame
from coordination.runs.retry_policy import Failure
from workers.logs import Log
from workers.process.child import Exit


class OutcomeKind(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The todo's own failure: its retry policy decides."""
    REFUSED = "refused"
    """Trying again would change nothing."""
    BUSY = "busy"
    """Somebody is still in the workspace, or does just the same elsewhere."""
    HINDERED = "hindered"
    """Trouble that passes, none of the todo's: it is parked, and uses up no attempt."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """Somebody else may hold the todo by now."""
    SUPERSEDED = "superseded"
    """Somebody else holds it or did: what this attempt would write was refused."""
    HANDED_BACK = "handed back"


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    word: OutcomeKind
    why: str = ""
    exit_code: int | None = None
    output: str = ""
    """JSON; of what did not succeed: what it had written by then, where Redis does not know it yet."""
    tip: str = ""
    since: str = ""
    """The commit that it began with."""
    failure: Failure | None = None
    """As its retry policy sees it, where it was the todo's command that failed."""
    blame: Blame = ""
    """`worker`: it failed for reasons of the worker's, and the todo's command says nothing."""
    limited: bool = False
    """HINDERED by what the todo's own command may have done: not for ever."""
    cached: str = ""
    """`<run> <todo>` whose result it was given; nothing ran."""
    again: timedelta | None = None
    """The delay before another try, where its retry policy wants one; or before it looks again whether it is still BUSY."""


class TaskResultKind(StrEnum):
    DONE = "done"
    """The todo succeeded."""
    FAILED = "failed"
    """The todo failed for good: FAILURE, and yet it counts."""
    ENDED = "ended"
    """It had ended before this delivery: nothing to show, but its part may not have been counted yet."""
    CANCELLED = "cancelled"
    """It was cancelled, here or before this delivery: REVOKED; its part counts as of any that has ended."""
    LATER = "later"
    """This delivery does not end the todo: it is sent again. Must not count."""


@dataclass(frozen=True)
class TaskResult:
    kind: TaskResultKind
    why: str = ""


SIGNALLED = 128
"""What a shell adds to the signal that has ended a command."""


def words(ended: Exit, timeout: timedelta) -> str:
    if ended.reason == "timeout":
        return f"timeout after {timeout.total_seconds():g} s"
    if ended.reason != "exited":
        return ended.reason
    if ended.message:
        return ended.message
    return f"exit code {ended.exit_code}" if ended.signal is None else f"killed by signal {ended.signal}"


def failure_from_exit(ended: Exit, shows: Callable[[str], bool]) -> Failure | None:
    """The code counts only of a command that ended by itself, and a signal as a shell tells of it."""
    if ended.reason == "timeout":
        return Failure(timeout=True, shows=shows)
    if ended.reason != "exited":
        return None
    code = ended.exit_code if ended.signal is None else SIGNALLED + ended.signal
    return Failure(exit_code=code, shows=shows)


KEPT_BYTES = 64 * 1024
SEARCH_S = 2.0
"""For all patterns of one failure together. One of them costs 25 ms."""


class OutputTail:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._tail = bytearray()
        self._cut = False
        self._until: float | None = None

    def take(self, data: bytes) -> None:
        self._log.write(data)
        self._tail += data
        if len(self._tail) > 2 * KEPT_BYTES:  # not at each piece: a tail is moved as a whole
            self._trim()

    def forget(self) -> None:
        """Another command begins: what was written so far is none of its own."""
        self._tail.clear()
        self._cut = False

    @property
    def tail(self) -> str:
        """The last of it."""
        return self._tail[-KEPT_BYTES:].decode(errors="replace")

    def shows(self, pattern: str) -> bool:
        """Whether a line of it fits. What cannot be said in time counts as no, and stands in the log."""
        if len(self._tail) > KEPT_BYTES:
            self._trim()
        self._until = self._until or time.monotonic() + SEARCH_S
        fits = fits_a_line(pattern, self._lines(), until=self._until, stopped=Event())
        if fits is None:
            self._log.say(f"looking for {pattern!r} in the output takes for ever: make the pattern simpler")
        return bool(fits)

    def _trim(self) -> None:
        del self._tail[:-KEPT_BYTES]
        self._cut = True

    def _lines(self) -> bytes:
        """What a cut has left of a line is no line."""
        return bytes(self._tail[self._tail.find(b"\n") + 1 :] if self._cut else self._tail)
