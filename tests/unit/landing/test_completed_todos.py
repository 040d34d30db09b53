"""Completed todos against the findings of several hosts."""

from __future__ import annotations

import pytest

from coordination.landing.completed import judge
from coordination.runs.landed_results import ExpectedResult, ResultFinding

COMMIT = "c" * 40
THERE = {"commit": COMMIT}
LOST = {"commit": COMMIT, "why": "neither", "ref": "refs/heads/x"}
ABSENT = {"commit": COMMIT, "why": "not in this clone"}
NOTHING: dict[str, str] = {}


def findings(*facts: dict[str, str]) -> list[ResultFinding]:
    return [ResultFinding(todo="T", repo="r", branch="main", **one) for one in facts]


@pytest.mark.parametrize("recorded", ["", COMMIT])
@pytest.mark.parametrize(
    ("facts", "missing", "unknown"),
    [
        ([ABSENT, THERE], [], []),
        ([THERE, LOST], [], []),
        ([ABSENT, LOST], ["refs/heads/x"], []),
        ([NOTHING, ABSENT], [""], []),
        ([NOTHING, NOTHING], [], ["T"]),
    ],
)
def test_one_host_that_has_the_commit_in_place_suffices_and_the_best_known_place_is_named(
    recorded: str, facts: list[dict[str, str]], missing: list[str], unknown: list[str]
):
    expected = [ExpectedResult(todo="T", repo="r", branch="main", commit=recorded)]
    for order in (facts, facts[::-1]):
        found = judge(expected, findings(*order), {})
        assert ([one.ref for one in found.missing], list(found.unknown)) == (missing, unknown)


@pytest.mark.parametrize(
    ("recorded", "reopened", "facts", "missing"),
    [
        ("", False, NOTHING, False),
        ("", False, LOST, True),
        ("", True, LOST, False),
        (COMMIT, True, LOST, True),
    ],
)
def test_work_by_hand_owes_nothing_to_a_commit_of_before_the_todo_was_opened_again(
    recorded: str, reopened: bool, facts: dict[str, str], missing: bool
):
    expected = [ExpectedResult(todo="T", repo="r", branch="main", commit=recorded)]
    found = judge(expected, findings(facts), {"T": reopened})
    assert (bool(found.missing), found.unknown) == (missing, ())


def test_a_repository_without_a_worker_is_told_from_one_of_which_nothing_is_known():
    expected = [ExpectedResult(todo="T", repo="r", branch="main")]
    found = judge(expected, [], {}, {"r"})
    assert ([one.todo for one in found.unanswered], found.unknown) == (["T"], ())
