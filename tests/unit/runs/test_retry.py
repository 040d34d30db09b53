"""Whether and when a failed todo is tried again, as a table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordination.models import Retry
from coordination.runs.retry import Again, GiveUp, decide

S = timedelta(seconds=1)
MS = timedelta(milliseconds=1)
USUAL = Retry(attempts=4, delay=S, factor=2, max_delay=3 * S)


@pytest.mark.parametrize(
    ("policy", "failures", "draw", "decision"),
    [
        pytest.param(Retry(attempts=1), 1, 0.5, GiveUp(), id="one attempt is no retry"),
        pytest.param(USUAL, 1, 0.5, Again(0.5 * S), id="the first delay is drawn below the base"),
        pytest.param(USUAL, 2, 0.5, Again(S), id="the cap doubles"),
        pytest.param(USUAL, 3, 1.0, Again(3 * S), id="up to the longest delay"),
        pytest.param(USUAL, 4, 0.5, GiveUp(), id="attempts include the first"),
        pytest.param(USUAL, 9, 0.5, GiveUp(), id="more failures than attempts"),
        pytest.param(USUAL, 1, 0.0, Again(MS), id="never no delay at all: a timer must be set"),
        pytest.param(Retry(attempts=100, factor=1000.0), 99, 1.0, Again(30 * S), id="a huge factor does not overflow"),
    ],
)
def test_the_decision_follows_from_policy_failures_and_the_draw(policy, failures, draw, decision):
    assert decide(policy, failures, draw) == decision
