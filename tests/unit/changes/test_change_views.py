"""A change set states the first reason that keeps it from landing."""

from __future__ import annotations

import pytest

from coordination.changes.view import ChangeWait, LiveRun, PlanFacts, view_of, wait_of
from coordination.runs.change_sets.records import Landed, RecordedCheck, RepoChange

LIVE = LiveRun(run="R2", does="works on it")
ASKS = LiveRun(run="R2", does="lands it", asks="P.locks")
TODOS = ("A", "B", "C", "D", "E")


@pytest.mark.parametrize(
    ("facts", "reason", "named"),
    [
        (PlanFacts(), ChangeWait.ORDER, "coord land P"),
        (PlanFacts(open=TODOS), ChangeWait.TODOS, "A, B, C and 2 more: coord sweep P"),
        (PlanFacts(open=TODOS[:1], failed_run="R1"), ChangeWait.TODOS, "coord retry R1"),
        (PlanFacts(failed_run="R1"), ChangeWait.ORDER, "coord land P"),
        (PlanFacts(declared=False, open=TODOS), ChangeWait.PLAN, "P"),
        (PlanFacts(unreverted="R1", open=TODOS), ChangeWait.REVERT, "coord show-run R1"),
        (PlanFacts(live=LIVE, unreverted="R1"), ChangeWait.RUN, "coord watch R2"),
        (PlanFacts(live=ASKS, open=TODOS), ChangeWait.PERSON, "coord approve P.locks"),
    ],
)
def test_a_change_set_says_what_it_waits_for(facts, reason, named):
    told = wait_of("P", (), facts)
    assert told[0] is reason
    assert named in told[1]


def test_what_has_landed_waits_for_nothing():
    landed = Landed(commit="c" * 40, tree_before="d" * 40, method="merge", via="push", at="x", run="R9")
    change = RepoChange(repo="lib", branch="coord/P", tip="a" * 40, run="R1", landed=landed)
    view = view_of("P", change, PlanFacts(open=TODOS))
    assert (view.landed, view.wait_reason, view.waits_for) == (landed, None, None)


def test_a_check_counts_for_the_tip_and_is_no_todo_of_the_change_set():
    def recorded(name: str, verdict: str, tip: str = "a") -> RecordedCheck:
        return RecordedCheck(name=name, verdict=verdict, tip=tip * 40, run="R1")

    checks = (recorded("unit", "green"), recorded("e2e", "red"), recorded("old", "red", "b"))
    todos = ("T", "P.qa.lib.unit", "T.accept.1", "P.qa.mine")
    change = RepoChange(repo="lib", branch="coord/P", tip="a" * 40, run="R1", checks=checks, todos=todos)

    view = view_of("P", change, PlanFacts(declared_todos={"T", "P.qa.mine"}))

    assert [one.verdict for one in view.checks] == ["green", "red", "stale"]
    assert (view.wait_reason, view.todos) == (ChangeWait.CHECKS, ("T", "P.qa.mine"))
    assert "e2e" in (view.waits_for or "")
    assert "old" not in (view.waits_for or "")
