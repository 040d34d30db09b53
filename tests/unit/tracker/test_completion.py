"""Completion of plans and milestones: what they lack, the refusal of an edit over that, and its force."""

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

TEXT = """
repos:
  - {name: api, path: api}
coordination:
  issues:
    - {id: I-1, title: t, blocking: [P-1]}
  plans:
    - id: P-1
      title: the plan
      status: active
      milestones:
        - id: M1
          name: written
          status: completed
          dependencies: [T-2]
          completion_criteria:
            - people like it
            - {text: the guide is there, check: test -e guide.md}
            - {text: it has two lines, check: [sh, -c, 'echo only one; exit 3']}
          deliverables: [guide.md, src/main.py, missing.md, a good feeling]
        - {id: M2, name: published, due: 2026-03-01}
        - {id: M3, name: given up, status: cancelled, completion_criteria: [{text: never, check: 'false'}]}
  todos:
    - {id: T-1, task: first, repo: api, plan: P-1, status: completed}
    - {id: T-2, task: second, repo: api, plan: P-1, status: in_progress}
"""


def test_a_deliverable_may_be_a_long_sentence(tmp_path: Path):
    text = TEXT.replace("a good feeling", "a good feeling " * 20)

    completion = manager_of(tmp_path, text).validate_plan_completion("P-1")

    assert [found.present for found in completion.milestones[0].deliverables] == [False, False, False, None]


def test_everything_that_is_missing_is_said(tmp_path: Path):
    (tmp_path / "guide.md").touch()
    (tmp_path / "api" / "src").mkdir(parents=True)
    (tmp_path / "api" / "src" / "main.py").touch()

    completion = manager_of(tmp_path, TEXT).validate_plan_completion("P-1", run_checks=True)

    assert not completion.complete
    assert completion.missing == (
        "T-2 is in_progress: second",
        "P-1 waits for I-1 (pending)",
        "M1 is completed, but it waits for T-2 (in_progress)",
        "M1 is completed, but does not hold: it has two lines (exit 3: only one)",
        "M1 is completed, but is not there: missing.md",
        "M2 is pending, due 2026-03-01: published",
    )
    assert completion.unchecked == (
        "M1: people like it (has no command that checks it)",
        "M1: a good feeling (is not a path)",
    )
    assert [criterion.met for criterion in completion.milestones[0].criteria] == [None, True, False]
    assert [found.present for found in completion.milestones[0].deliverables] == [True, True, False, None]


WITH_CHECK = (
    "coordination: {{plans: [{{id: P, title: t, milestones: [{{id: M, name: n, "
    "completion_criteria: [{{text: c, check: {check}}}], status: completed}}]}}]}}\n"
)


def test_commands_are_run_when_it_is_asked_for_and_not_else(tmp_path: Path):
    text = WITH_CHECK.format(check="touch ran")
    manager = manager_of(tmp_path, text)

    unchecked = manager.validate_plan_completion("P").unchecked
    there = (tmp_path / "ran").exists()
    seen: list[str] = []
    checked = manager.validate_plan_completion("P", run_checks=True, on_check=lambda c: seen.append(c.text))

    assert (unchecked, there) == (("M: c (was not run)",), False)
    assert (checked.complete, checked.unchecked, seen) == (True, (), ["c"])
    assert (tmp_path / "ran").exists()


def test_a_command_that_is_not_there_does_not_hold(tmp_path: Path):
    text = WITH_CHECK.format(check="[no-such-command]")

    (missing,) = manager_of(tmp_path, text).validate_plan_completion("P", run_checks=True).missing

    assert "cannot be run: No such file or directory" in missing


def test_a_plan_that_says_that_it_is_done_while_its_todos_are_open_is_contradicted(tmp_path: Path):
    text = (
        "coordination: {plans: [{id: P, title: t, status: completed}], "
        "todos: [{id: T, task: do it, repo: r, plan: P}]}\n"
    )

    completion = manager_of(tmp_path, text).validate_plan_completion("P")

    assert completion.missing == ("P is completed, but T is pending: do it",)


def test_a_plan_of_nothing_is_complete_and_says_that_it_holds_nothing(tmp_path: Path):
    completion = manager_of(
        tmp_path, "coordination: {plans: [{id: P, title: t}]}\n"
    ).validate_plan_completion("P")

    assert (completion.complete, completion.unchecked) == (True, ("P has neither todos nor milestones",))


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
