"""The next id: the highest number in use and one, in the file's own writing."""

from __future__ import annotations

import pytest

from coordination.tracker.transaction import Numbering


@pytest.mark.parametrize(
    ("own", "taken", "expected"),
    [
        ([], [], "TODO-001"),
        (["TODO-001", "TODO-002"], [], "TODO-003"),
        (["TODO-001", "TODO-009"], [], "TODO-010"),
        (["TODO-005", "TODO-002"], [], "TODO-006"),
        (["T-1", "T-9"], [], "T-10"),
        (["T-0099"], [], "T-0100"),
        (["TODO-999"], [], "TODO-1000"),
        (["API-7", "API-8", "WEB-31"], [], "API-9"),
        (["API-7", "WEB-31"], [], "WEB-32"),
        (["fix-the-build"], [], "TODO-001"),
        (["v2.x-1", "v2.x-2"], [], "v2.x-3"),
        (["7", "12"], [], "13"),
        (["TODO-001"], ["TODO-004"], "TODO-005"),
        ([], ["TODO-001"], "TODO-002"),
        (["TODO-001"], ["ISSUE-900"], "TODO-002"),
        (["T-20260131"], [], "T-20260132"),
    ],
)
def test_the_next_id_follows_the_highest(own: list[str], taken: list[str], expected: str):
    assert Numbering(own, taken, "TODO-001").next() == expected


def test_several_in_a_row_step_over_what_was_given_by_hand():
    numbering = Numbering(["T-1"], [], "TODO-001")

    assert [numbering.next(), numbering.next({"T-3"}), numbering.next()] == ["T-2", "T-4", "T-5"]
