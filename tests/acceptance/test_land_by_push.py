"""Story: a plan's work is pushed to the remotes of its repositories, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stage import PLAN, Stage, git
from tests.waiting import until

REPOS = ("a", "b", "c")


@pytest.fixture
def swept(stage: Stage) -> Stage:
    """Three repositories in a chain, with a bare remote each."""
    repos = {}
    for name in REPOS:
        path = stage.repo(name)
        git(path, "clone", "-q", "--bare", str(path), str(stage.folder / f"{name}.git"))
        repos[name] = {"url": str(stage.folder / f"{name}.git")}
    stage.settings = {"land_patience": "60s"}
    before = {"b": ["T-a"], "c": ["T-b"]}
    stage.write(
        [
            {"id": f"T-{name}", "repo": name, "action": "echo new > work", "blocked_by": before.get(name, [])}
            for name in REPOS
        ],
        repos=repos,
    )
    stage.up()
    assert stage.sweep().code == 0
    return stage


def remote(stage: Stage, name: str) -> Path:
    return stage.folder / f"{name}.git"


def has_work(stage: Stage, name: str) -> bool:
    return "work" in git(remote(stage, name), "ls-tree", "--name-only", "main").split()


def refuse(stage: Stage, name: str, words: str = "not today") -> Path:
    hook = remote(stage, name) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    # a push that changes nothing reaches no hook: the refusal comes after the others have landed
    hook.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    hook.chmod(0o755)
    return hook


def test_nothing_stays_landed_if_the_third_remote_refuses_and_all_lands_when_it_does_not(swept: Stage):
    hook = refuse(swept, "c")
    refused = swept.coord("land", PLAN, "--yes", "--json")
    assert refused.code == 3
    assert refused.json["status"] == "rolled_back"
    assert "not today" in refused.err
    assert [has_work(swept, name) for name in REPOS] == [False, False, False]
    reverted = git(remote(swept, "a"), "log", "--format=%B", "main")
    assert "Coord-Reverts" in reverted, "by a commit: history is never rewritten"

    hook.unlink()
    landed = swept.coord("land", PLAN, "--yes", "--json")
    assert landed.code == 0, landed.err
    assert [has_work(swept, name) for name in REPOS] == [True, True, True]


def test_a_base_that_moved_since_the_sweep_keeps_its_commits_and_gets_the_work(swept: Stage):
    other = swept.folder / "colleague"
    git(swept.folder, "clone", "-q", str(remote(swept, "a")), str(other))
    (other / "theirs").write_text("x\n")
    git(other, "add", "--all")
    git(other, "commit", "-qm", "theirs")
    git(other, "push", "-q", "origin", "main")

    assert swept.coord("land", PLAN, "--yes").code == 0
    assert {"theirs", "work"} <= set(git(remote(swept, "a"), "ls-tree", "--name-only", "main").split())
    assert git(swept.folder / "a", "log", "--format=%s", "main") == "first", "the checkout is left alone"


def test_a_remote_that_is_away_is_waited_for(swept: Stage):
    away = remote(swept, "b").rename(swept.folder / "b.away")
    process = swept.begin("land", PLAN, "--yes", "--json")
    until(lambda: waits(swept), 60)
    away.rename(remote(swept, "b"))
    done = process.done(90)
    assert done.code == 0, done.err
    assert [has_work(swept, name) for name in REPOS] == [True, True, True]


def waits(stage: Stage) -> bool:
    found = stage.run()
    return any(
        todo["wait_reason"] == "trouble" for todo in found["todos"] if found["plan_id"].startswith("land")
    )


def test_what_people_have_merged_counts_as_landed_and_only_a_revert_takes_it_out(swept: Stage):
    run = swept.run()["run_id"]
    git(swept.folder / "a", "push", "-q", str(remote(swept, "a")), f"coord/{PLAN}:main")
    refuse(swept, "c")
    assert swept.coord("land", PLAN, "--yes").code == 3
    assert [has_work(swept, name) for name in REPOS] == [True, False, False], f"a was merged by people: {run}"
