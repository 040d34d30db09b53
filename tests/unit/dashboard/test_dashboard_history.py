"""Rows of events on the page History."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from coordination.api import HistoryEvent
from coordination.dashboard.views.history import details_of, subject_of


@pytest.mark.parametrize(
    ("fields", "subject", "details"),
    [
        (
            {"kind": "redis.restarted", "subject": "9f2c1e"},
            "Redis",
            "Redis was restarted while runs were live.",
        ),
        (
            {"kind": "level.opened", "subject": "run-1", "data": {"level": 0}},
            "run-1",
            "The todos of level 1 may start.",
        ),
        (
            {"kind": "level.settled", "subject": "run-1", "data": {"level": "<b>"}},
            "run-1",
            "All todos of a level have ended.",
        ),
        ({"kind": "todo.parked", "subject": "T-1", "title": "an approval"}, "T-1", "waits for an approval"),
        ({"kind": "breaker.opened", "subject": "repo:api", "title": "no {room}"}, "repo:api", "no {room}"),
    ],
)
def test_a_row_names_its_subject_and_says_what_happened(
    fields: dict[str, object], subject: str, details: str
):
    event = HistoryEvent.model_validate({"id": "1-0", "at": datetime(2026, 1, 31, tzinfo=UTC), **fields})

    assert (subject_of(event), details_of(event)) == (subject, details)
