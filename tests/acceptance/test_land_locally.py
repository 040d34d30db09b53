"""Story: a plan's work lands in the checkouts of this machine, is reverted, and lands again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

TODOS = [
    {"id": "LIB", "repo": "lib", "action": "echo 2 > version"},
    {"id": "APP", "repo": "app", "blocked_by": ["LIB"], "action": "echo 'lib 2' > needs"},
]
MORE = [{"id": "LIB-2", "repo": "lib", "action": "test $(cat version) = 2 && echo 3 > version"}]


@pytest.fixture
def swept(testbed: Testbed) -> Testbed:
    testbed.write(TODOS)
    testbed.up()
    assert testbed.sweep().code == 0
    return testbed


def head(testbed: Testbed, repo: str) -> str:
    return git(testbed.folder / repo, "rev-parse", "main")


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def land(testbed: Testbed, *words: str) -> dict:
    done = testbed.coord("land", PLAN, "--yes", "--json", *words)
    return {"code": done.code, **(done.json if done.out.startswith("{") else {}), "err": done.err}


def test_a_plan_lands_twice_and_a_dirty_checkout_in_between_loses_nothing(swept: Testbed):
    before = {repo: head(swept, repo) for repo in ("lib", "app")}
    preview = swept.ok("land", PLAN, "--dry-run", "--json").json
    assert [(one["repo"], one["via"], one["base"]) for one in preview["repos"]] == [
        ("lib", "local", before["lib"]),
        ("app", "local", before["app"]),
    ]
    assert swept.coord("land", PLAN).code == 2, "nobody can be asked"
    assert {repo: head(swept, repo) for repo in before} == before

    landed = land(swept)
    assert landed["code"] == 0, landed["err"]
    assert (read(swept.folder / "lib/version"), read(swept.folder / "app/needs")) == ("2", "lib 2")
    assert swept.ok("land", PLAN, "--yes", "--json").json["run_id"] is None, "there is nothing left to land"

    swept.write(TODOS + MORE)
    assert swept.sweep().code == 0
    stood = head(swept, "lib")
    (swept.folder / "lib/README").write_text("in the middle of something\n")
    refused = land(swept)
    assert refused["code"] == 3
    assert "README" in refused["err"]
    assert head(swept, "lib") == stood
    assert read(swept.folder / "lib/README") == "in the middle of something"
    git(swept.folder / "lib", "checkout", "-q", "README")
    assert land(swept)["code"] == 0
    assert read(swept.folder / "lib/version") == "3"


def test_last_is_the_newest_run_on_which_a_command_can_act(swept: Testbed):
    run = swept.run()["run_id"]
    assert land(swept)["code"] == 0

    assert swept.run("last")["plan_id"] == f"land:{PLAN}"
    again = swept.coord("retry", "last", "--json")
    assert (again.code, again.json["run_id"]) == (0, None), again.err
    assert swept.ok("checkpoint", "create", "last", "landed", "--json").json["run_id"] == run
    assert swept.coord("logs", "last", "LIB").code == 0
    assert swept.ok("run", "sync", "last", "--json").json["run_id"] == run
    assert swept.ok("list-runs", "--status", "failed", "--json").json == []
    assert swept.coord("list-runs", "--status", "failed").err != swept.coord("list-runs").err
    assert swept.ok("list-todos", "--assignee", "nobody", "--json").json == []


TOLD = {
    "change_set.landed": {"commit", "tip", "base", "branch", "via", "method"},
    "change_set.reverted": {"commit", "by", "tip", "base", "branch", "via"},
    "command.land": {"commits", "bases", "branches", "via", "method"},
    "command.revert": {"commits", "bases", "branches", "via"},
}


def test_what_was_reverted_lands_again_with_all_the_work(swept: Testbed):
    """And no other command takes it back."""
    assert land(swept)["code"] == 0
    landed = swept.run()["run_id"]
    assert swept.coord("retry", landed).code != 0
    assert swept.coord("rollback", landed, "--yes").code == 6
    assert read(swept.folder / "lib/version") == "2"

    reverted = swept.coord("revert", landed, "--yes", "--json")
    assert reverted.code == 0, reverted.err
    assert (read(swept.folder / "lib/version"), read(swept.folder / "app/needs")) == ("", "")
    by, views = swept.run()["run_id"], swept.ok("changes", PLAN, "--json").json
    assert {one["reverted"]["run"] for one in views} == {by}, "people see that it had landed"
    assert by in swept.ok("changes", PLAN).out
    assert swept.coord("revert", PLAN, "--yes").code == 2, "nothing of it stands"
    refused = swept.coord("rollback", swept.run()["run_id"], "--yes")
    assert (refused.code, f"coord land {PLAN}" in refused.err) == (6, True)

    swept.write(TODOS + MORE)
    again = swept.sweep()
    assert again.code == 0, again.err
    assert land(swept)["code"] == 0
    events = {kind: swept.ok("history", "search", "--kind", kind, "--json").json for kind in TOLD}
    assert [len(found) for found in events.values()] == [4, 2, 2, 1]
    assert all(TOLD[kind] <= one["data"].keys() and one["actor"] for kind in TOLD for one in events[kind])
    assert {one["reverted"] for one in swept.ok("changes", PLAN, "--json").json} == {None}
    assert (read(swept.folder / "lib/version"), read(swept.folder / "app/needs")) == ("3", "lib 2")
    assert "Coord-Reverts" in git(swept.folder / "lib", "log", "--format=%B"), "history was not rewritten"


def test_a_preview_of_a_revert_says_which_repositories_would_conflict(swept: Testbed):
    assert land(swept)["code"] == 0
    lib = swept.folder / "lib"
    (lib / "version").write_text("2 and more\n")
    git(lib, "commit", "-qam", "theirs")
    before = {repo: head(swept, repo) for repo in ("lib", "app")}
    preview = swept.coord("revert", PLAN, "--dry-run", "--json")
    rows = {one["repo"]: one for one in preview.json["repos"]}
    assert preview.code == 3
    assert "version" in rows["lib"]["problem"]
    assert (rows["app"]["problem"], rows["app"]["would"][:12]) == ("", "add a commit")
    assert {repo: head(swept, repo) for repo in before} == before
    refused = swept.coord("revert", PLAN, "--yes")
    assert refused.code == 3
    assert "version" in refused.err

    git(lib, "revert", "--no-edit", "HEAD")
    assert swept.coord("revert", PLAN, "--dry-run").code == 0
    (lib / "version").unlink()
    git(lib, "commit", "-qam", "taken out by hand")
    rows = {one["repo"]: one for one in swept.ok("revert", PLAN, "--dry-run", "--json").json["repos"]}
    assert rows["lib"]["would"].startswith("change nothing")


def test_a_todo_that_only_looks_is_not_called_compensated(testbed: Testbed):
    looks = {"type": "shell", "run": "test -e README", "read_only": True}
    todos = [
        {"id": "LOOK", "repo": "lib", "action": looks},
        {"id": "WRITE", "repo": "lib", "action": "echo 2 > version", "blocked_by": ["LOOK"]},
        {"id": "FAIL", "repo": "lib", "action": "false", "blocked_by": ["WRITE"]},
    ]
    testbed.write(todos, plan={"on_failure": "rollback"})
    assert testbed.sweep().code == 3
    run = testbed.ok("show-run", "last", "--json").json
    states = {todo["id"]: todo["state"] for todo in run["todos"]}
    assert states == {"LOOK": "succeeded", "WRITE": "compensated", "FAIL": "compensated"}
    assert run["counts"] == {"succeeded": 1, "compensated": 2}
    (listed,) = testbed.ok("list-runs", "--json").json
    assert listed["counts"] == run["counts"]


def test_status_shows_what_is_ready_to_land_and_what_lands_now(swept: Testbed):
    def to_land() -> list[dict]:
        return swept.ok("status", "--json").json["to_land"]

    ready = {"plan": PLAN, "repos": ["app", "lib"], "run": "", "waits_for": ""}
    assert to_land() == [ready]
    assert f"coord land {PLAN}\n" in swept.ok("status").out

    swept.write(TODOS, plan={"land": {"waves": {"order": [1, "rest"], "soak": "10m"}}})
    run = swept.ok("land", PLAN, "--yes", "--detach", "--json").json["run_id"]
    (now,) = until(lambda: (found := to_land()) and found[0]["waits_for"] and found)
    assert (now["repos"], now["run"]) == (["app"], run)
    assert "landing now\n" in swept.ok("status").out
    swept.ok("cancel", run)
