"""A run reports at its start the files of a checkout that it does not use."""

from __future__ import annotations

from tests.testbed import Testbed, git


def test_a_sweep_says_which_uncommitted_work_and_which_commits_are_not_part_of_it(testbed: Testbed):
    for name in ("clean", "dirty", "ahead", "place", "idle"):
        testbed.repo(name)
    for name in ("dirty", "place", "idle"):
        (testbed.folder / name / "README").write_text("changed\n")
        (testbed.folder / name / "new file").write_text("untracked\n")
    git(testbed.folder / "dirty", "mv", "README", "READ ME")
    git(testbed.folder / "ahead", "switch", "-q", "-c", "feature-x")
    git(testbed.folder / "ahead", "commit", "-q", "--allow-empty", "-m", "mine")
    todos = [{"id": name, "repo": name} for name in ("clean", "dirty", "ahead", "place")]
    todos[-1] |= {"workspace": "in-place"}
    testbed.write(todos, repos={"idle": {}})

    told = testbed.sweep()

    assert told.code == 0, told.err
    assert sorted(told.json["left_out"], key=lambda one: one["repo"]) == [
        {"repo": "ahead", "uncommitted": 0, "branch": "feature-x", "commits": 1, "base": "main"},
        {"repo": "dirty", "uncommitted": 2, "branch": "main", "commits": 0, "base": "main"},
    ]
    lines = [line for line in told.err.splitlines() if "not part of the run" in line]
    assert sorted(line.partition(":")[0] for line in lines) == ["ahead", "dirty"]
    assert git(testbed.folder / "dirty", "status", "--porcelain").count("\n") == 1
