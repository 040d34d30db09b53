"""Story: a plan's work is pushed to the remotes of its repositories, whole or not at all."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.ports import free_port
from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

REPOS = ("a", "b", "c")


@pytest.fixture
def swept(testbed: Testbed) -> Testbed:
    """Three repositories in a chain, with a bare remote each."""
    repos = {}
    for name in REPOS:
        path = testbed.repo(name)
        git(path, "clone", "-q", "--bare", str(path), str(testbed.folder / f"{name}.git"))
        repos[name] = {"url": str(testbed.folder / f"{name}.git")}
    testbed.settings = {"land_patience": "60s"}
    before = {"b": ["T-a"], "c": ["T-b"]}
    testbed.write(
        [
            {"id": f"T-{name}", "repo": name, "action": "echo new > work", "blocked_by": before.get(name, [])}
            for name in REPOS
        ],
        repos=repos,
    )
    testbed.up()
    assert testbed.sweep().code == 0
    return testbed


def remote(testbed: Testbed, name: str) -> Path:
    return testbed.folder / f"{name}.git"


def has_work(testbed: Testbed, name: str) -> bool:
    return "work" in git(remote(testbed, name), "ls-tree", "--name-only", "main").split()


def refuse(testbed: Testbed, name: str) -> Path:
    hook = remote(testbed, name) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    # a push that changes nothing reaches no hook: the refusal comes after the others have landed
    hook.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    hook.chmod(0o755)
    return hook


def test_nothing_stays_landed_if_the_third_remote_refuses_and_all_lands_when_it_does_not(swept: Testbed):
    """Although the worker is killed after its first push: the next attempt knows what has arrived."""
    swept.ok("down")
    log = swept.folder / "points"
    points = f"land.push.after=kill,log={log}"
    swept.ok("up", "--detach", "--no-flower", "--no-dashboard", COORD_FAILPOINTS=points)
    hook = refuse(swept, "c")
    refused = swept.coord("land", PLAN, "--yes", "--json", "--via", "push")
    assert refused.code == 3
    assert refused.json["status"] == "rolled_back", refused.err
    assert "not today" in refused.err
    assert "land.push.after kill" in log.read_text()
    assert [has_work(swept, name) for name in REPOS] == [False, False, False]
    assert len(git(remote(swept, "a"), "log", "--format=%H", "--first-parent", "main").split()) == 3
    reverted = git(remote(swept, "a"), "log", "--format=%B", "main")
    assert "Coord-Reverts" in reverted, "by a commit: history is never rewritten"

    hook.unlink()
    landed = swept.coord("land", PLAN, "--yes", "--json")
    assert landed.code == 0, landed.err
    assert [has_work(swept, name) for name in REPOS] == [True, True, True]
    assert git(swept.folder / "a", "log", "--format=%s", "main") == "first", "the checkout is left alone"


def test_a_remote_that_is_away_is_waited_for(swept: Testbed):
    port = free_port()
    file = yaml.safe_load(swept.file.read_text())
    file["repos"][1]["url"] = f"git://127.0.0.1:{port}/b.git"
    swept.file.write_text(yaml.safe_dump(file))
    process = swept.begin("land", PLAN, "--yes", "--json")
    until(lambda: waits(swept))
    assert swept.coord("land", PLAN, "--yes").code == 6, "it goes on already"
    more = {"id": "MORE", "task": "x", "repo": "a", "plan": PLAN, "action": "true"}
    file["coordination"]["todos"].append(more)
    swept.file.write_text(yaml.safe_dump(file))
    assert swept.coord("sweep", PLAN).code == 6, "the tips are frozen"

    with serving(swept, port):
        done = process.done(90)
    assert done.code == 0, done.err
    assert [has_work(swept, name) for name in REPOS] == [True, True, True]


@contextmanager
def serving(testbed: Testbed, port: int) -> Iterator[None]:
    """A server of the bare repositories."""
    where = ("--listen=127.0.0.1", f"--port={port}", f"--base-path={testbed.folder}")
    words = ["git", "daemon", "--export-all", "--enable=receive-pack", "--reuseaddr", *where]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            yield
        finally:
            daemon.terminate()


def waits(testbed: Testbed) -> bool:
    found = testbed.run()
    return any(
        todo["wait_reason"] == "base" for todo in found["todos"] if found["plan_id"].startswith("land")
    )
