"""The rate limits that an answer states, whatever clock the forge has."""

from __future__ import annotations

import pytest

from coordination.forges.errors import LONGEST_PAUSE_S, ForgeProblem, limit_of, pause_after_last_s

DATE = "Mon, 23 Nov 2026 16:00:00 GMT"
LATER = "Mon, 23 Nov 2026 16:00:09 GMT"
EPOCH = 1795449600
"""The time of DATE."""


@pytest.mark.parametrize(
    ("status", "headers", "told", "expected"),
    [
        (200, {}, "", None),
        (403, {}, "no right", None),
        (403, {"x-ratelimit-remaining": "12"}, "no right", None),
        (
            403,
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH + 90), "date": DATE},
            "API rate limit exceeded",
            (ForgeProblem.RATE_LIMIT, 90.0),
        ),
        (429, {"ratelimit-remaining": "0", "retry-after": "7"}, "", (ForgeProblem.RATE_LIMIT, 7.0)),
        (403, {"retry-after": "30"}, "secondary rate limit", (ForgeProblem.SECONDARY_LIMIT, 30.0)),
        (403, {}, "You have exceeded a secondary rate limit", (ForgeProblem.SECONDARY_LIMIT, 60.0)),
        (
            429,
            {"retry-after": LATER, "date": DATE},
            "",
            (ForgeProblem.RATE_LIMIT, 9.0),
        ),
        (429, {"retry-after": "99999999"}, "", (ForgeProblem.RATE_LIMIT, LONGEST_PAUSE_S)),
        (429, {"retry-after": "soon"}, "", (ForgeProblem.RATE_LIMIT, 60.0)),
        (429, {"ratelimit-reset": "1", "date": DATE}, "", (ForgeProblem.RATE_LIMIT, 1.0)),
    ],
)
def test_a_limit_is_told_from_a_refusal_and_has_a_bounded_pause(
    status: int, headers: dict[str, str], told: str, expected: tuple[ForgeProblem, float] | None
):
    assert limit_of(status, headers, told) == expected


def test_the_last_call_that_is_allowed_is_followed_by_a_pause():
    last = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH + 5), "date": DATE}
    assert pause_after_last_s(last) == 5.0
    assert pause_after_last_s({**last, "x-ratelimit-remaining": "1"}) == 0.0
    assert pause_after_last_s({}) == 0.0
