"""The bugs that `make chaos` plants are still of this code, and the two of today are noticed."""

from __future__ import annotations

import random

import pytest

from tests.chaos.bugs import BUGS, HISTORY
from tests.chaos.planted import misplaced, survivors


def test_each_bug_can_be_planted() -> None:
    assert [words for bug in BUGS if (words := misplaced(bug))] == []
    assert len(BUGS) >= 20


@pytest.mark.long
def test_a_bug_does_not_get_past_the_tests() -> None:
    quick = [bug for bug in BUGS if all(test.startswith("tests/contracts/test_run_") for test in bug.tests)]
    assert HISTORY not in {test for bug in quick for test in bug.tests}

    assert survivors([random.choice(quick)]) == []
