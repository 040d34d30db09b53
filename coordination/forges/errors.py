"""Refusals of a forge, told apart: each has a problem that code branches on, a cause and a next command."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from coordination.errors import Blocked, Conflict, CoordinationError, NotAllowed, NotFound, Unreachable


class ForgeProblem(StrEnum):
    UNAUTHORIZED = "unauthorized"
    """401: the token is wrong, expired or revoked."""
    FORBIDDEN = "forbidden"
    """403: the token lacks a right."""
    RATE_LIMIT = "rate_limit"
    """429, or 403 with no calls left: nothing more until `retry_at`."""
    SECONDARY_LIMIT = "secondary_limit"
    """Too many calls at once, or too much content: the forge asks for a pause."""
    BUDGET = "budget"
    """The setting forge_budget is used up for this hour; the forge was not asked."""
    NOT_FOUND = "not_found"
    """404: it does not exist, or the token may not see it."""
    RENAMED = "renamed"
    """301: the repository has another name."""
    ARCHIVED = "archived"
    """The repository is read-only."""
    FORK_NEEDED = "fork_needed"
    """The token may read the repository and not push to it."""
    NOT_MERGEABLE = "not_mergeable"
    """405: a conflict, a draft, or a rule of the branch refuses the merge."""
    HEAD_MOVED = "head_moved"
    """409: the head is another commit than the expected one."""
    QUEUE_ONLY = "queue_only"
    """The branch takes changes through a merge queue only."""
    CONFLICT = "conflict"
    """409 of another kind: somebody else changed it meanwhile."""
    ALREADY_EXISTS = "already_exists"
    """There is an open request of this branch."""
    NO_DIFFERENCE = "no_difference"
    """The branch has no commits that its base lacks: there is nothing to propose."""
    NO_BRANCH = "no_branch"
    """The head or base branch does not exist at the forge."""
    CLOSED = "closed"
    """The request is closed or merged."""
    UNKNOWN_LABEL = "unknown_label"
    UNKNOWN_PERSON = "unknown_person"
    """A reviewer, assignee or team does not exist, or may not be asked."""
    TOO_LONG = "too_long"
    """A title or body is longer than the forge takes."""
    INVALID = "invalid"
    """400 or 422 of another kind."""
    UNSUPPORTED = "unsupported"
    """The forge, or its edition, does not have the operation."""
    SERVER = "server"
    """5xx: trouble of the forge."""
    BROKEN_ANSWER = "broken_answer"
    """The answer is no JSON, too large, or lacks what the API promises."""
    UNREACHABLE = "unreachable"
    """No answer: refused, timed out, or a certificate that is not trusted."""


_CODES: Mapping[type[CoordinationError], tuple[ForgeProblem, ...]] = {
    NotAllowed: (
        ForgeProblem.UNAUTHORIZED,
        ForgeProblem.FORBIDDEN,
        ForgeProblem.FORK_NEEDED,
        ForgeProblem.ARCHIVED,
    ),
    Blocked: (
        ForgeProblem.RATE_LIMIT,
        ForgeProblem.SECONDARY_LIMIT,
        ForgeProblem.BUDGET,
        ForgeProblem.NOT_MERGEABLE,
        ForgeProblem.QUEUE_ONLY,
    ),
    Conflict: (
        ForgeProblem.HEAD_MOVED,
        ForgeProblem.CONFLICT,
        ForgeProblem.ALREADY_EXISTS,
        ForgeProblem.CLOSED,
    ),
    NotFound: (
        ForgeProblem.NOT_FOUND,
        ForgeProblem.RENAMED,
        ForgeProblem.NO_BRANCH,
        ForgeProblem.UNKNOWN_LABEL,
        ForgeProblem.UNKNOWN_PERSON,
        ForgeProblem.TOO_LONG,
        ForgeProblem.UNSUPPORTED,
    ),
    Unreachable: (ForgeProblem.SERVER, ForgeProblem.BROKEN_ANSWER, ForgeProblem.UNREACHABLE),
}
"""The problems that end a command with the exit code of such an error; the others end it with 1."""
LIMITS = frozenset({ForgeProblem.RATE_LIMIT, ForgeProblem.SECONDARY_LIMIT, ForgeProblem.BUDGET})
PASSING = LIMITS | {ForgeProblem.SERVER, ForgeProblem.BROKEN_ANSWER, ForgeProblem.UNREACHABLE}
"""Problems that end by themselves: nothing is known about what was asked for."""


class ForgeError(CoordinationError):
    """A forge refused a call, or did not answer it."""

    def __init__(
        self,
        problem: ForgeProblem,
        message: str,
        hint: str = "",
        *,
        status: int = 0,
        retry_at: datetime | None = None,
        told: str = "",
    ) -> None:
        self.problem = problem
        self.status = status
        """The HTTP status; 0 without an answer."""
        self.retry_at = retry_at
        """The time from which the forge takes calls again; None if it did not say."""
        self.told = told
        """The words of the forge, safe to print."""
        self.exit_code = next((kind.exit_code for kind, ours in _CODES.items() if problem in ours), 1)
        super().__init__(message, hint)
