"""A checkout that stops to be a repository while its worker lives: its todos wait for it."""

from __future__ import annotations

from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed
from tests.waiting import until


def test_a_todo_waits_until_its_checkout_is_a_repository_again(testbed: Testbed) -> None:
    gate, git_dir = Gate(testbed.folder), testbed.folder / "api" / ".git"
    away = git_dir.with_name("away")
    testbed.write(
        [
            {"id": "first", "repo": "web", "action": gate.action},
            {"id": "then", "repo": "api", "action": "true", "blocked_by": ["first"]},
        ]
    )
    sweep = testbed.begin("sweep", PLAN)
    gate.wait()
    git_dir.rename(away)
    gate.open()

    def waits() -> bool:
        todos = {todo["id"]: todo for todo in testbed.run()["todos"]}
        return "is no git repository" in (todos["then"]["waits_for"] or "")

    until(waits)
    away.rename(git_dir)
    assert sweep.done().code == 0


def test_a_dry_run_names_a_checkout_that_is_no_repository(testbed: Testbed) -> None:
    testbed.write([{"id": "A", "repo": "api", "action": "true"}])
    git_dir = testbed.folder / "api" / ".git"
    git_dir.rename(git_dir.with_name("away"))

    assert "is no git repository" in testbed.coord("sweep", PLAN, "--dry-run").err
