"""The answer to a decision, about the run that asked."""

from __future__ import annotations

import pytest

from coordination.cli.runs.control import _then
from coordination.runs.records import RunStatus


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (RunStatus.RUNNING, "run R continues"),
        (RunStatus.PAUSED, "run R is paused; continue it: coord resume R"),
        (RunStatus.ROLLING_BACK, "run R is being rolled back; follow it: coord watch R"),
        (RunStatus.FAILED, "run R has ended: failed"),
    ],
)
def test_it_says_what_becomes_of_the_run(status: RunStatus, words: str) -> None:
    assert _then("R", status) == words
