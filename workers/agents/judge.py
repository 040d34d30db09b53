"""How a round ended, from the records of the program, its exit code, and the end of its plain text.

Exit codes are no evidence of success: programs exit 0 after errors and signals. A round is done only if the
last record says so, no error stands in the records and the exit code is 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from coordination.text import shortened
from workers.agents.fields import clean
from workers.agents.program import Report


class RoundEnd(StrEnum):
    """How a round ended."""

    DONE = "done"
    QUESTION = "question"
    """The agent asks a person."""
    LIMITED = "limited"
    """A limit of the account or of the service's rate."""
    OVERLOADED = "overloaded"
    """The service fails or is out of reach, which passes."""
    AUTH = "auth"
    """The login is missing or refused."""
    QUOTA = "quota"
    """The account has nothing left to spend."""
    CONTEXT = "context"
    """The session is too long for the model."""
    LOST = "lost"
    """The session that was to be continued does not exist."""
    OVER = "over"
    """A limit of Start: `text` is `turns` or `usd`."""
    INTERRUPTED = "interrupted"
    """A signal ended it."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    kind: RoundEnd
    text: str = ""
    """The error, the question, or the last message."""
    until: datetime | None = None
    """When the limit ends, if the program told it."""


RETRIES = "retries"
"""The reason with which a program is stopped that does nothing but try again."""
_QUESTION = re.compile(r"^\s*QUESTION:\s*(\S.*)", re.DOTALL | re.MULTILINE)
_SHOWN = 2000
"""Characters of an error."""
_SIGNAL_CODES = (130, 137, 143)
"""128 + INT, KILL, TERM. Others are codes of programs: Gemini's 145 is 401 modulo 256."""
_TEXTS: Mapping[RoundEnd, str] = {
    RoundEnd.LOST: (
        r"no conversation found|no rollout found|session not found|invalid session identifier|"
        r"no session, task, or name matched|error resuming session"
    ),
    RoundEnd.CONTEXT: (
        r"prompt is too long|context.?(length|window)|ran out of room|maximum context|"
        r"exceeds the maximum number of tokens"
    ),
    RoundEnd.QUOTA: r"credit balance|insufficient.?quota|quota exceeded|billing|payment required",
    RoundEnd.AUTH: (
        r"\b40[13]\b|not logged in|invalid (x-)?api.?key|unauthenticated|unauthorized|forbidden|"
        r"authenticat|missing environment variable|no authentication|please set an auth method"
    ),
    RoundEnd.LIMITED: (r"\b429\b|rate.?limit|too many requests|(usage|session) limit|resource.?exhausted"),
    RoundEnd.OVERLOADED: (
        r"\b5(0\d|29)\b|overloaded|high demand|server error|unavailable|"
        r"connection (refused|reset|error)|econn|enotfound|fetch failed|stream disconnected|timed out"
    ),
}
"""How the error of each class reads; the first one that matches counts."""
_CLASSES = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _TEXTS.items()]
_STATUSES = {
    401: RoundEnd.AUTH,
    402: RoundEnd.QUOTA,
    403: RoundEnd.AUTH,
    413: RoundEnd.CONTEXT,
    429: RoundEnd.LIMITED,
}


def judge(
    report: Report,
    *,
    exit_code: int | None,
    signal: int | None = None,
    reason: str = "exited",
    tail: str = "",
    reports: bool = True,
) -> Judgement:
    """Return how a round ended.

    `reason`: why the program ended, as of an Exit; RETRIES if it was stopped because it did nothing but try
    again. `tail`: the last lines of its plain text. `reports`: False if it prints no records.
    """
    if reason == RETRIES:
        return _failure(report.error or report.retrying or tail, report, otherwise=RoundEnd.OVERLOADED)
    if reason != "exited" or signal is not None or report.interrupted:
        return Judgement(kind=RoundEnd.INTERRUPTED, text=_cause(reason, signal))
    if not reports:
        return _by_exit_code(exit_code, tail)
    if report.over:
        return Judgement(kind=RoundEnd.OVER, text=report.over)
    if report.error:
        return _failure(report.error, report)
    if report.done and exit_code == 0:
        asked = _QUESTION.search(report.text)
        kind = RoundEnd.QUESTION if asked else RoundEnd.DONE
        return Judgement(kind=kind, text=asked[1].rstrip() if asked else report.text)
    if exit_code in _SIGNAL_CODES:
        return Judgement(kind=RoundEnd.INTERRUPTED, text=f"exit code {exit_code}")
    if exit_code == 0:
        return Judgement(
            kind=RoundEnd.FAILED, text="it ended without a last record that says that it has finished"
        )
    if report.retrying or tail.strip():
        return _failure(report.retrying or tail, report)
    return _by_exit_code(exit_code, tail)


def _by_exit_code(exit_code: int | None, tail: str) -> Judgement:
    if exit_code == 0:
        return Judgement(kind=RoundEnd.DONE)
    if exit_code in _SIGNAL_CODES:
        return Judgement(kind=RoundEnd.INTERRUPTED, text=f"exit code {exit_code}")
    return Judgement(kind=RoundEnd.FAILED, text=_shown(tail) or f"exit code {exit_code}")


def _failure(error: str, report: Report, otherwise: RoundEnd = RoundEnd.FAILED) -> Judgement:
    kind = _class(error, report.status) or otherwise
    until = report.until if kind is RoundEnd.LIMITED else None
    return Judgement(kind=kind, text=_shown(error) or kind.value, until=until)


def _class(error: str, status: int | None) -> RoundEnd | None:
    """Return the class of an error: of its text where that is more precise than the status."""
    found = next((kind for kind, pattern in _CLASSES if pattern.search(error)), None)
    if status is None or found in (RoundEnd.LOST, RoundEnd.CONTEXT, RoundEnd.QUOTA):
        return found
    return _STATUSES.get(status) or (RoundEnd.OVERLOADED if status >= 500 else found)


def _cause(reason: str, signal: int | None) -> str:
    if reason != "exited":
        return reason
    return "the program says that it was interrupted" if signal is None else f"signal {signal}"


def _shown(error: str) -> str:
    return shortened(clean(error).strip(), _SHOWN)
