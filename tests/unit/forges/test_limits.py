"""The limits of an answer: those that it states, whatever clock the forge has, and the memory it takes."""

from __future__ import annotations

import pytest

from coordination.forges.errors import LONGEST_PAUSE_S, ForgeProblem, limit_of, pause_after_last_s
from coordination.forges.http import LARGEST_PARSED_BYTES, VALUE_BYTES, parsed_size

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


@pytest.mark.parametrize("values", [b"[],", b"{},"])
def test_an_answer_of_many_small_values_counts_as_the_memory_that_they_take(values: bytes):
    assert parsed_size(b"[" + values * 3_000_000 + b"[]]") > LARGEST_PARSED_BYTES


@pytest.mark.parametrize("text", [b"[,{", b'\\"[,', b"\\\\"])
@pytest.mark.parametrize("end", [b'"]', b"", b"\\"])
def test_the_text_of_people_counts_as_its_bytes_whatever_it_is(text: bytes, end: bytes):
    content = b'["' + text * 300_000 + end

    assert parsed_size(content) <= len(content) + VALUE_BYTES
