"""The outcome of an attempt, from its end to the step that settles it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from coordination.forges.locate import ForgeAddress
from coordination.runs.not_committed import NotCommitted, written
from coordination.runs.records import Blame, Result, TodoState, WaitReason
from coordination.runs.retry_policy import Failure
from coordination.sandbox_limits import OVER
from workers.process.child import Exit


class OutcomeKind(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The todo itself failed: its retry policy decides."""
    REFUSED = "refused"
    """Another attempt would change nothing."""
    BUSY = "busy"
    """Another attempt is still in the workspace, or computes the same result elsewhere."""
    DEFERRED = "deferred"
    """The environment of the attempt interrupted it, or it waits for something. The todo is parked, has not
    failed, and uses up no attempt.
    """
    CANCELLED = "cancelled"
    LOST = "lost"
    """Another worker may hold the todo by now."""
    SUPERSEDED = "superseded"
    """A newer attempt holds or held the todo: what this one would write was refused."""
    HANDED_BACK = "handed back"


@dataclass(frozen=True, kw_only=True)
class AwaitedRequest:
    """A request at a forge that an attempt has found not to be ready."""

    address: ForgeAddress
    looked_at: float
    """The time, by the monotonic clock, at which the attempt began to look."""


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    kind: OutcomeKind
    error: str = ""
    """The cause of any other end than success; what the todo waits for, if BUSY or DEFERRED."""
    exit_code: int | None = None
    output: str = ""
    """JSON. Without success: the output that the todo has written since the last checkpoint in Redis."""
    tip: str = ""
    began: str = ""
    """The commit at which the attempt began."""
    failure: Failure | None = None
    """The failure of the todo's command, which its retry policy judges."""
    blame: Blame = ""
    """`worker`: the attempt failed for reasons of the worker's, not of the todo's command. `signature`:
    nothing ran, because a signature was refused.
    """
    limited: bool = False
    """True if the todo's own command may have caused the interruption: it is deferred a limited number of
    times.
    """
    reason: WaitReason = WaitReason.TROUBLE
    """The reason of the wait, if DEFERRED."""
    service: str = ""
    """The service that is starting, if the attempt waits for it."""
    request: AwaitedRequest | None = None
    """The request at a forge, if the attempt waits for it: news of it end the wait."""
    cached: str = ""
    """`<run> <todo>` of the cached result; nothing ran."""
    figures: str = ""
    """Figures of the change set at `tip`."""
    check: str = ""
    """Name, verdict and commit of a quality check."""
    not_committed: Sequence[NotCommitted] = ()
    """The todo's files that are not in its commit."""
    again: timedelta | None = None
    """The delay before the next look, if BUSY, or if DEFERRED for a known time."""

    def result(self, state: TodoState) -> Result:
        """Return the record for a step that gives the todo this state."""
        return Result(
            outcome=state,
            exit_code=self.exit_code,
            error=self.error,
            output=self.output,
            tip=self.tip if state is TodoState.SUCCEEDED else "",
            began=self.began,
            blame=self.blame,
            cached=self.cached,
            figures=self.figures,
            check=self.check,
            not_committed=written(self.not_committed),
        )


SIGNALLED = 128
"""A shell's exit code of a command that a signal ended, less the signal."""


def describe_exit(ended: Exit, timeout: timedelta) -> str:
    """Return how a command ended, for people."""
    if ended.reason == "timeout":
        return f"timeout after {timeout.total_seconds():g} s"
    if ended.reason in OVER:
        return ended.message
    if ended.reason != "exited":
        return ended.reason
    if ended.message:
        return ended.message
    return f"exit code {ended.exit_code}" if ended.signal is None else f"killed by signal {ended.signal}"


def failure_from_exit(ended: Exit, shows: Callable[[str], bool]) -> Failure | None:
    """Return the failure for the retry policy; None where the command ended neither by itself nor by its
    timeout.
    """
    if ended.reason == "timeout":
        return Failure(timeout=True, shows=shows)
    if ended.reason != "exited":
        return None
    code = ended.exit_code if ended.signal is None else SIGNALLED + ended.signal
    return Failure(exit_code=code, shows=shows)
