"""Refusals of a forge: each has a problem that code branches on, a cause and a next command.

The second half reads refusals from answers; it is pure. GitHub and Gitea send `X-RateLimit-Remaining` and
`X-RateLimit-Reset`, GitLab sends both without `X-`; all send `Retry-After` with 429. GitHub also answers 403
at a limit: at the primary limit with no calls left, at the secondary limit with `Retry-After` or only with a
message. `Reset` is a time by the forge's clock, so it is compared with the `Date` of the same answer, never
with the clock of this machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from coordination.errors import (
    Blocked,
    Conflict,
    CoordinationError,
    ExitCode,
    NotAllowed,
    NotFound,
    Unreachable,
)


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
    """409: the head is not the expected commit."""
    QUEUE_ONLY = "queue_only"
    """The branch takes changes through a merge queue only."""
    CONFLICT = "conflict"
    """409 for another reason: somebody else has changed the object in the meantime."""
    ALREADY_EXISTS = "already_exists"
    """An open request of this branch exists."""
    NO_DIFFERENCE = "no_difference"
    """The branch has no commits that its base lacks: there is nothing to propose."""
    NO_BRANCH = "no_branch"
    """The head or base branch does not exist at the forge."""
    CLOSED = "closed"
    """The request is closed or merged."""
    UNKNOWN_LABEL = "unknown_label"
    UNKNOWN_PERSON = "unknown_person"
    """A reviewer, assignee or team does not exist, or cannot be requested."""
    TOO_LONG = "too_long"
    """A title or body is longer than the forge accepts."""
    INVALID = "invalid"
    """400 or 422 for another reason."""
    UNSUPPORTED = "unsupported"
    """The forge, or its edition, does not have the operation."""
    SERVER = "server"
    """5xx: an error of the forge."""
    BROKEN_ANSWER = "broken_answer"
    """The answer is not JSON, is too large, or lacks a field that the API promises."""
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
"""Error class → the problems that end a command with its exit code; other problems end it with 1."""
LIMITS = frozenset({ForgeProblem.RATE_LIMIT, ForgeProblem.SECONDARY_LIMIT, ForgeProblem.BUDGET})
PASSING = LIMITS | {ForgeProblem.SERVER, ForgeProblem.BROKEN_ANSWER, ForgeProblem.UNREACHABLE}
"""Temporary problems. After one of them it is not known whether the call took effect."""

UNSTATED_PAUSE_S = 60.0
"""Seconds to pause after a limit for which the forge states no time."""
LONGEST_PAUSE_S = 2 * 3600.0
"""Seconds of the longest pause: no limit of these forges lasts longer, so a longer one is a mistake."""
_LIMIT_WORDS = re.compile(r"rate limit|abuse detection|retry your request again later", re.IGNORECASE)
LONGEST_TEXT = 4_000
"""Number of characters of a reason that are read."""
TOO_MANY, FORBIDDEN, SERVER_ERRORS = 429, 403, 500
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BY_STATUS: Mapping[int, tuple[ForgeProblem, str, str]] = {
    401: (
        ForgeProblem.UNAUTHORIZED,
        "the forge does not accept the token: it is wrong, expired or revoked",
        "give another one: coord credential rotate NAME REFERENCE",
    ),
    403: (
        ForgeProblem.FORBIDDEN,
        "the token may not do this",
        "give it the right to read and write pull requests and contents of the repository",
    ),
    404: (
        ForgeProblem.NOT_FOUND,
        "it does not exist, or the token may not see it",
        "check the url of the repository in the file, and the repositories that the token covers",
    ),
    405: (ForgeProblem.NOT_MERGEABLE, "the forge refuses the merge now", "see the page of the request"),
    409: (ForgeProblem.CONFLICT, "somebody else has changed it in the meantime", "try again"),
    410: (ForgeProblem.NOT_FOUND, "the repository has turned this feature off", "turn it on at the forge"),
    413: (ForgeProblem.TOO_LONG, "the text is longer than the forge accepts", "shorten it"),
}
_INVALID = (ForgeProblem.INVALID, "the forge rejects the call as invalid", "see its message above")
_ARCHIVED = (
    ForgeProblem.ARCHIVED,
    "the repository is archived: nothing can be changed",
    "unarchive it at the forge; or remove it from the plan",
)


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
        reason: str = "",
    ) -> None:
        self.problem = problem
        self.status = status
        """The HTTP status; 0 without an answer."""
        self.retry_at = retry_at
        """The time from which the forge accepts calls again; None if it did not state one."""
        self.reason = reason
        """The reason in the words of the forge, safe to print."""
        kinds = (kind.exit_code for kind, ours in _CODES.items() if problem in ours)
        self.exit_code = next(kinds, ExitCode.ERROR)
        super().__init__(message, hint)


def limit_of(status: int, headers: Mapping[str, str], reason: str) -> tuple[ForgeProblem, float] | None:
    """Return the limit that an answer states, and the seconds until the limit ends; None without a limit."""
    used_up = _number(headers, "ratelimit-remaining") == 0
    if status == TOO_MANY or (
        status == FORBIDDEN and (used_up or "retry-after" in headers or _LIMIT_WORDS.search(reason))
    ):
        primary = used_up or (status == TOO_MANY and not _LIMIT_WORDS.search(reason))
        return (ForgeProblem.RATE_LIMIT if primary else ForgeProblem.SECONDARY_LIMIT), _pause_s(headers)
    return None


def pause_after_last_s(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait after the last allowed call; 0 if more calls are allowed."""
    if _number(headers, "ratelimit-remaining") != 0 or _number(headers, "ratelimit-reset") is None:
        return 0.0
    return _pause_s(headers)


def _pause_s(headers: Mapping[str, str]) -> float:
    now = _date(headers.get("date", ""))
    word = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", word):
        return _bounded(float(word))
    if (until := _date(word)) and now:
        return _bounded((until - now).total_seconds())
    reset = _number(headers, "ratelimit-reset")
    if reset is None:
        return UNSTATED_PAUSE_S
    return _bounded(reset - now.timestamp()) if now else UNSTATED_PAUSE_S


def _bounded(pause_s: float) -> float:
    return min(max(pause_s, 1.0), LONGEST_PAUSE_S)


def _number(headers: Mapping[str, str], name: str) -> int | None:
    word = (headers.get(f"x-{name}") or headers.get(name) or "").strip()
    return int(word) if re.fullmatch(r"\d{1,12}", word) else None


def _date(word: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(word)
    except ValueError:
        return None
    return found if found.tzinfo else None


def refusal_of(host: str, status: int, reason: str, target: str = "") -> ForgeError:
    """Return the error for an answer that states no limit. `target`: the address of its redirect."""
    suffix = f": {reason}" if reason else ""
    if status in REDIRECTS:
        moved = f"{host} says that the repository has moved" + (f": {target}" if target else "")
        hint = "correct the url of the repository in the file"
        return ForgeError(ForgeProblem.RENAMED, moved, hint, status=status, reason=target)
    if status >= SERVER_ERRORS:
        message = f"{host} has a server error ({status}){suffix}"
        hint = "try again; it is unknown whether the forge executed the call"
        return ForgeError(ForgeProblem.SERVER, message, hint, status=status, reason=reason)
    is_archived = status in (403, 405, 423) and "archived" in reason.lower()
    problem, cause, hint = _ARCHIVED if is_archived else _BY_STATUS.get(status, _INVALID)
    return ForgeError(problem, f"{host}: {cause} ({status}){suffix}", hint, status=status, reason=reason)


def reason_in(content: bytes) -> str:
    """Return the reason in the body of a refusal, from `message`, `error` or `errors`; empty without one."""
    try:
        data = json.loads(content[: 1 << 20])
    except (ValueError, RecursionError):
        return ""
    return "; ".join(dict.fromkeys(_texts(data, 4)))[:LONGEST_TEXT]


def _texts(value: object, depth: int) -> list[str]:
    """Return the texts of a refusal, and the fields that it calls invalid."""
    if isinstance(value, str):
        return [value]
    if depth == 0:
        return []
    if isinstance(value, list):
        return [word for inner in value[:20] for word in _texts(inner, depth - 1)]
    if not isinstance(value, dict):
        return []
    if "field" in value and "message" not in value:
        return [f"{value['field']} is {value.get('code')}"]
    known = [key for key in ("message", "error", "error_description", "errors") if key in value]
    if known:
        return [word for key in known for word in _texts(value[key], depth - 1)]
    return [f"{key}: {word}" for key, inner in list(value.items())[:20] for word in _texts(inner, depth - 1)]
