"""Read the rate limits that a forge states in its answers; pure.

GitHub and Gitea say `X-RateLimit-Remaining` and `X-RateLimit-Reset`, GitLab the same without `X-`; all say
`Retry-After` with 429. GitHub answers 403 at a limit, too: at the primary one with no calls left, at the
secondary one with `Retry-After` or with words only. `Reset` is a time by the forge's clock, so it is compared
with the `Date` of the same answer, never with the clock of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from coordination.forges.errors import ForgeProblem

WITHOUT_WORD_S = 60.0
"""Pause after a limit for which the forge names no time."""
LONGEST_S = 2 * 3600.0
"""No limit of these forges lasts longer; a longer one is a mistake."""
TOO_MANY, FORBIDDEN = 429, 403
_LIMIT_WORDS = re.compile(r"rate limit|abuse detection|retry your request again later", re.IGNORECASE)


def limit_of(status: int, headers: Mapping[str, str], told: str) -> tuple[ForgeProblem, float] | None:
    """Return the limit that an answer states, and the seconds until its end; None if it states none."""
    used_up = _number(headers, "ratelimit-remaining") == 0
    if status == TOO_MANY or (
        status == FORBIDDEN and (used_up or "retry-after" in headers or _LIMIT_WORDS.search(told))
    ):
        primary = used_up or (status == TOO_MANY and not _LIMIT_WORDS.search(told))
        return (ForgeProblem.RATE_LIMIT if primary else ForgeProblem.SECONDARY_LIMIT), _pause_s(headers)
    return None


def pause_after_last_s(headers: Mapping[str, str]) -> float:
    """Return the pause that follows an answer which was the last one allowed; 0 if there are more."""
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
        return WITHOUT_WORD_S
    return _bounded(reset - now.timestamp()) if now else WITHOUT_WORD_S


def _bounded(pause_s: float) -> float:
    return min(max(pause_s, 1.0), LONGEST_S)


def _number(headers: Mapping[str, str], name: str) -> int | None:
    word = (headers.get(f"x-{name}") or headers.get(name) or "").strip()
    return int(word) if re.fullmatch(r"\d{1,12}", word) else None


def _date(word: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(word)
    except ValueError:
        return None
    return found if found.tzinfo else None
