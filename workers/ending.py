"""How a command ended: in words, and as a retry policy sees it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from coordination.runs.retry import Failure
from workers.child import Exit

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


def signs(ended: Exit, shows: Callable[[str], bool]) -> Failure | None:
    """The code counts only of a command that ended by itself, and a signal as a shell tells of it."""
    if ended.reason == "timeout":
        return Failure(timeout=True, shows=shows)
    if ended.reason != "exited":
        return None
    code = ended.exit_code if ended.signal is None else SIGNALLED + ended.signal
    return Failure(exit_code=code, shows=shows)
