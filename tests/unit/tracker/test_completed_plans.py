"""The completion of plans and milestones, refused over what they lack, and forced with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from managers import NOW, manager_of, statuses

from coordination.ecosystem.document import load
from coordination.ecosystem.journal import Journal
from coordination.environment import actor
from coordination.errors import Incomplete, UsageError
from coordination.tracker.manager import CoordinationManager
from coordination.tracker.records import CheckStanding

MILESTONE = """
coordination:
  plans:
    - id: P
      title: t
      status: active
      milestones:
        - {id: M1, name: n, completion_criteria: [{text: it holds, check: "touch ran; exit 4"}]}
"""
CHECKED = """
repos:
  - {name: api, path: api, qa: [{name: unit, run: make test}, {name: e2e, run: make e2e}]}
  - {name: web, path: web}
coordination:
  plans: [{id: P, title: t, status: active, qa: after, milestones: [{id: M1, name: n}]}]
  todos:
    - {id: T, task: t, repo: api, plan: P, status: completed}
    - {id: U, task: t, repo: web, plan: P, status: completed}
"""


def events(manager: CoordinationManager) -> list[dict[str, object]]:
    entry = list(Journal(manager.document.path).entries())[-1]
    assert entry.actor == actor()
    return [dict(event) for event in entry.events]


def test_a_milestone_whose_check_fails_is_completed_only_by_force(tmp_path: Path):
    manager = manager_of(tmp_path, MILESTONE)
    seen: list[str] = []

    with pytest.raises(Incomplete) as refused:
        manager.update_plan("P", complete_milestones=["M1"], on_check=lambda c: seen.append(c.text))
    assert (refused.value.exit_code, seen) == (3, ["it holds"])
    assert refused.value.findings == ("M1: does not hold: it holds (exit 4)",)
    assert "--complete-milestone M1 --force --reason" in refused.value.hint
    (tmp_path / "ran").unlink()

    with pytest.raises(Incomplete):  # nor by changing its status
        manager.update_plan("P", update_milestones={"M1": {"status": "completed"}})
    (tmp_path / "ran").unlink()

    manager.complete_milestone("P", "M1", force=True, reason=" people\nagreed ")
    assert not (tmp_path / "ran").exists()
    (event,) = (event for event in events(manager) if event["subject"] == "P/M1")
    assert event["data"] == {"reason": "people agreed", "forced_over": []}


def test_a_plan_is_completed_by_force_over_all_that_its_event_names(tmp_path: Path):
    manager = manager_of(tmp_path, MILESTONE)

    done = manager.update_plan("P", {"status": "completed"}, force=True, reason="given up")

    assert statuses(manager)["P"] == "completed"
    assert done.notes == ("completed although: M1 is pending: n",)
    (event,) = events(manager)
    assert (event["kind"], event["data"]) == (
        "plan.completed",
        {"reason": "given up", "forced_over": ["M1 is pending: n"]},
    )


def test_a_new_plan_is_not_completed_over_what_it_lacks(tmp_path: Path):
    manager = manager_of(tmp_path, "coordination: {}\n")

    with pytest.raises(Incomplete):
        manager.create_plan(title="t", status="completed", milestones=[{"id": "M1", "name": "n"}])

    assert manager.create_plan(title="t", status="completed").record.status == "completed"


@pytest.mark.parametrize(
    ("force", "reason", "changes"),
    [
        (True, " ", {"status": "completed"}),
        (False, "why not", {"status": "completed"}),
        (True, "why not", {"title": "other"}),
        (True, "\ud800", {"status": "completed"}),
        (True, "x" * 2000, {"status": "completed"}),
    ],
)
def test_a_force_without_reason_or_without_use_is_refused(
    tmp_path: Path, force: bool, reason: str, changes: dict[str, str]
):
    manager = manager_of(tmp_path, MILESTONE)
    before = manager.document.text

    with pytest.raises(UsageError):
        manager.update_plan("P", changes, force=force, reason=reason)

    assert manager.document.path.read_bytes() == before


GREEN = CheckStanding(repo="api", check="unit", verdict="green", accepted=True)


@pytest.mark.parametrize(
    ("e2e", "missing", "milestone"),
    [
        (CheckStanding(repo="api", check="e2e", verdict="green", accepted=True), (), True),
        (CheckStanding(repo="api", check="e2e", verdict="red", accepted=True, why="known"), (), True),
        (
            CheckStanding(repo="api", check="e2e", verdict="red", why="1 of 2 tests failed"),
            ("check e2e of api is red (1 of 2 tests failed)",),
            False,
        ),
        (None, ("check e2e of api has no recorded result",), True),
    ],
)
def test_quality_checks_that_are_red_or_unknown_keep_a_plan_open(
    tmp_path: Path, e2e: CheckStanding | None, missing: tuple[str, ...], milestone: bool
):
    manager_of(tmp_path, CHECKED)
    results = {("api", "unit"): GREEN} | ({("api", "e2e"): e2e} if e2e else {})
    manager = CoordinationManager(
        load(tmp_path / "ecosystem.yaml"), now=lambda: NOW, recorded=lambda plan: results
    )

    if milestone:
        manager.complete_milestone("P", "M1")
    else:
        with pytest.raises(Incomplete):
            manager.complete_milestone("P", "M1")
        manager.update_plan("P", update_milestones={"M1": {"status": "cancelled"}})
    standing = manager.validate_plan_completion("P")
    assert (standing.missing, standing.unchecked) == (missing, ("web declares no check",))

    if missing:
        with pytest.raises(Incomplete) as refused:
            manager.update_plan("P", {"status": "completed"})
        assert refused.value.findings == missing
    manager.update_plan("P", {"status": "completed"}, force=bool(missing), reason="later" if missing else "")
    still = manager.validate_plan_completion("P").missing
    assert still == (missing if e2e else ()), "results go with their runs, so a completed plan needs none"


def test_without_redis_no_result_is_known(tmp_path: Path):
    manager = manager_of(tmp_path, CHECKED.replace("{id: M1, name: n}", ""))

    with pytest.raises(Incomplete):
        manager.update_plan("P", {"status": "completed"})
