"""Records become ready when the last one that they wait for is finished."""

from __future__ import annotations

from pathlib import Path

import pytest
from managers import manager_of, statuses, text_of

TEXT = """
coordination:
  issues:
    - {id: I-1, title: t, blocking: [T-2], status: pending}
    - {id: I-2, title: t, dependencies: [T-1], status: blocked}
    - {id: I-3, title: t, blocking: [PLAN-2], status: pending}
  plans:
    - {id: PLAN-1, title: t, status: active}
    - id: PLAN-2
      title: t
      status: active
      milestones:
        - {id: M1, name: n, status: pending}
        - {id: M2, name: n, status: blocked, dependencies: [M1]}
        - {id: M3, name: n, status: blocked, dependencies: [T-3]}
    - id: PLAN-3
      title: another one with milestones of these names
      milestones:
        - {id: M1, name: n, status: pending}
        - {id: M2, name: n, status: blocked, dependencies: [M1]}
  todos:
    - {id: T-1, task: t, repo: r, status: pending, blocking: [T-3]}
    - {id: T-2, task: t, repo: r, status: blocked, blocked_by: [T-1]}
    - {id: T-3, task: t, repo: r, status: pending}
    - {id: T-4, task: t, repo: r, status: blocked, blocked_by: [T-3]}
    - {id: T-5, task: t, repo: r, status: in_progress, blocked_by: [T-4]}
    - {id: T-6, task: t, repo: r, status: pending, plan: PLAN-2}
    - {id: T-7, task: t, repo: r, status: cancelled, blocked_by: [T-3]}
    - {id: T-8, task: t, repo: r, status: blocked}
"""


def test_the_last_blocker_makes_ready_and_the_one_before_does_not(tmp_path: Path):
    manager = manager_of(tmp_path, TEXT)

    first = manager.complete_todo("T-1")
    now = statuses(manager)
    last = manager.close_issue("I-1")

    assert first.ready == ("I-2", "T-3")
    assert (now["I-2"], now["T-2"], now["T-3"]) == ("pending", "blocked", "pending")
    assert (last.ready, statuses(manager)["T-2"]) == (("T-2",), "pending")


def test_it_is_one_edit_and_what_changed_has_a_date(tmp_path: Path):
    manager = manager_of(tmp_path, TEXT)

    manager.complete_todo("T-3")

    assert "{id: T-4, task: t, repo: r, status: pending, updated: 2026-03-04, blocked_by: [T-3]}" in text_of(
        manager
    ) or "{id: T-4, task: t, repo: r, status: pending, blocked_by: [T-3], updated: 2026-03-04}" in text_of(
        manager
    )


def test_what_is_over_or_blocked_by_hand_stays_as_it_is(tmp_path: Path):
    manager = manager_of(tmp_path, TEXT)

    edited = manager.complete_todo("T-3")

    assert edited.ready == ("T-4", "PLAN-2.M3")
    assert (statuses(manager)["T-7"], statuses(manager)["T-8"]) == ("cancelled", "blocked")


def test_work_in_progress_is_named_and_left(tmp_path: Path):
    manager = manager_of(tmp_path, TEXT)

    edited = manager.complete_todo("T-4")

    assert (edited.ready, statuses(manager)["T-5"]) == (("T-5",), "in_progress")


def test_what_blocks_a_plan_blocks_its_todos(tmp_path: Path):
    manager = manager_of(tmp_path, TEXT)

    assert manager.close_issue("I-3").ready == ("PLAN-2", "T-6")


def test_a_milestone_is_ready_in_its_own_plan_only(tmp_path: Path):
    manager = manager_of(tmp_path, TEXT)

    edited = manager.complete_milestone("PLAN-2", "M1")

    assert edited.ready == ("PLAN-2.M2",)
    assert [m.status for m in manager.get_plan("PLAN-2").milestones] == ["completed", "pending", "blocked"]
    assert [m.status for m in manager.get_plan("PLAN-3").milestones] == ["pending", "blocked"]


def test_a_cancelled_blocker_makes_nothing_ready(tmp_path: Path):
    manager = manager_of(tmp_path, TEXT)

    assert manager.update_todo("T-3", {"status": "cancelled"}).ready == ()
    assert statuses(manager)["T-4"] == "blocked"


def test_whoever_loses_the_blocker_itself_is_ready_too(tmp_path: Path):
    manager = manager_of(tmp_path, TEXT)

    edited = manager.update_todo("T-4", {"blocked_by": []})

    assert (edited.ready, edited.record.status) == (("T-4",), "pending")


def test_a_status_that_somebody_has_just_given_stays(tmp_path: Path):
    manager = manager_of(tmp_path, TEXT)

    edited = manager.update_todo("T-5", {"blocked_by": [], "status": "blocked"})

    assert (edited.ready, edited.record.status) == (("T-5",), "blocked")


@pytest.mark.parametrize("operation", ["reopen", "new blocker"])
def test_an_open_blocker_changes_no_status_by_itself(tmp_path: Path, operation: str):
    manager = manager_of(tmp_path, TEXT)
    manager.complete_todo("T-3")

    if operation == "reopen":
        manager.update_todo("T-3", {"status": "pending"})
    else:
        manager.update_issue("I-3", {"blocking": ["PLAN-2", "T-4"]})

    assert statuses(manager)["T-4"] == "pending"
    assert any(tie.holds for tie in manager.chains_of("T-4").waits_for)
