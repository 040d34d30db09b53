"""The story *demo*: six packages are raised to another Python, tested against each other and committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from coordination.demo import break_package, create
from coordination.demo.create import names
from tests.testbed import Done, Testbed, git
from tests.waiting import until

SAMPLE = Path(create.__code__.co_filename).parent / "ecosystem.yaml"
TODOS = [f"TODO-{n:03}" for n in range(1, 13)]
NewTestbed = Callable[[], Testbed]


@pytest.fixture(scope="module")
def shown(new_testbed: NewTestbed) -> tuple[Testbed, Done]:
    """`coord demo DIR`, carried out."""
    testbed = new_testbed()
    return testbed, testbed.coord("demo", str(testbed.folder), cwd=testbed.folder.parent)


CHANGE_SET = "coord/PLAN-001"


def branches(repository: Path) -> list[str]:
    return git(repository, "for-each-ref", "--format=%(refname:short)", "refs/heads/coord").split()


def test_the_demo_succeeds_shows_each_todo_and_says_what_to_try_next(shown: tuple[Testbed, Done]) -> None:
    _, answer = shown

    assert answer.code == 0, answer.err
    assert "12 succeeded" in answer.out
    assert all(f"✓ {todo}" in answer.err for todo in TODOS)
    assert "next: " in answer.err


def test_every_repository_has_the_work_as_commits_with_trailers_on_the_branch_of_the_plan(
    shown: tuple[Testbed, Done],
) -> None:
    testbed, _ = shown
    run = testbed.coord("list-runs", "--json").json[0]["run_id"]

    for name in names():
        repository = testbed.folder / name
        until(lambda at=repository: branches(at) == [CHANGE_SET])
        metadata = git(repository, "show", f"{CHANGE_SET}:pyproject.toml")
        trailers = git(repository, "log", "--format=%(trailers)", f"main..{CHANGE_SET}")
        assert 'requires-python = ">=3.11"' in metadata
        assert f"Coord-Run: {run}" in trailers
        assert "Coord-Todo: TODO-" in trailers
        assert "Coord-Fence: " in trailers


def test_the_checkouts_are_as_they_were(shown: tuple[Testbed, Done]) -> None:
    testbed, _ = shown

    for name in names():
        repository = testbed.folder / name
        assert git(repository, "status", "--porcelain", "--ignored") == ""
        assert git(repository, "branch", "--show-current") == "main"
        assert git(repository, "worktree", "list").count("\n") == 0
        assert ">=3.9" in (repository / "pyproject.toml").read_text()


def test_the_tests_of_a_package_ran_against_the_changed_versions_below_it(
    shown: tuple[Testbed, Done],
) -> None:
    testbed, _ = shown
    run = testbed.shown()

    # On main the packages below still work with Python 3.9: only the branch has StrEnum and UTC.
    assert "StrEnum" not in git(testbed.folder / "units", "grep", "-h", "Enum", "main", "--", "src")
    assert "StrEnum" in git(testbed.folder / "units", "grep", "-h", "Enum", CHANGE_SET, "--", "src")
    for todo in TODOS[6:]:
        assert b"OK" in testbed.log_of(run.json["run_id"], todo)
        assert run.todo(todo)["exit_code"] == 0


def test_the_file_has_the_todos_completed_with_hours_and_every_other_byte_as_before(
    shown: tuple[Testbed, Done],
) -> None:
    testbed, _ = shown
    before, after = yaml.safe_load(SAMPLE.read_text()), yaml.safe_load(testbed.file.read_text())

    for todo in after["coordination"]["todos"]:
        assert todo.pop("status") == "completed"
        assert todo.pop("actual_hours") >= 0
        assert todo.pop("updated")
    assert after == before
    assert without_what_was_written(testbed.file.read_text()) == SAMPLE.read_text()


def without_what_was_written(text: str) -> str:
    lines = []
    for line in text.splitlines(keepends=True):
        if line.startswith(("      status: completed", "      updated: ", "      actual_hours: ")):
            continue
        if line.startswith("    - {id: TODO-"):
            parts = line.split(", ")
            line = ", ".join(
                p for p in parts if not p.startswith(("status: ", "updated: ", "actual_hours: "))
            )
        lines.append(line)
    return "".join(lines)


def test_no_worktree_and_no_process_is_left(shown: tuple[Testbed, Done]) -> None:
    testbed, _ = shown

    assert list((testbed.state / "worktrees").glob("*")) == []
    until(lambda: not list(testbed.alive()))


def test_a_broken_package_fails_its_test_keeps_its_worktree_and_skips_what_depends_on_it(
    testbed: Testbed,
) -> None:
    create(testbed.folder)
    break_package(testbed.folder, "store")

    swept = testbed.sweep()

    run = swept.json["run_id"]
    assert (swept.code, swept.json["status"]) == (3, "failed")
    assert swept.todo("TODO-010")["state"] == "failed"  # the test of store
    assert swept.todo("TODO-012")["error"] == "needs TODO-010, which failed"  # the test of cli
    assert sorted(swept.states.values()) == ["failed", "skipped"] + ["succeeded"] * 10
    kept = testbed.state / "worktrees" / run / "store"
    assert kept.is_dir()
    assert str(kept) in swept.err
    assert f"coord logs {run} TODO-010" in swept.err
    assert "Error" in testbed.coord("logs", run, "TODO-010").out
