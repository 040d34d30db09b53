"""The completion of a plan, and what prevents it."""

from __future__ import annotations

from pathlib import Path

from managers import manager_of

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
