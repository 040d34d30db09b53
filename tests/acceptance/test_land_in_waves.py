"""Stories: a plan lands wave by wave; a failure takes its wave back, and no other."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.testbed import PLAN, Done, Testbed, git
from tests.waiting import until

REPOS = ("a", "b", "c")


@pytest.fixture
def swept(testbed: Testbed) -> Testbed:
    """Three repositories in a chain, with a bare remote each, whose work is done."""
    repos = {}
    for name in REPOS:
        path = testbed.repo(name)
        git(path, "clone", "-q", "--bare", str(path), str(testbed.folder / f"{name}.git"))
        repos[name] = {"url": str(testbed.folder / f"{name}.git")}
    before = {"b": ["T-a"], "c": ["T-b"]}
    todos = [
        {"id": f"T-{name}", "repo": name, "action": "echo new > work", "blocked_by": before.get(name, [])}
        for name in REPOS
    ]
    testbed.write(todos, repos=repos)
    testbed.up()
    assert testbed.sweep().code == 0
    return testbed


def lands_in(testbed: Testbed, waves: Any, **rules: Any) -> None:
    document = yaml.safe_load(testbed.file.read_text())
    document["coordination"]["plans"][0]["land"] = {"waves": waves, **rules}
    testbed.file.write_text(yaml.safe_dump(document))


def land(testbed: Testbed, *words: str) -> Done:
    return testbed.coord("land", PLAN, "--yes", "--json", *words)


def landed(testbed: Testbed) -> str:
    """Return the repositories whose remotes have the work."""
    trees = {one: git(testbed.folder / f"{one}.git", "ls-tree", "--name-only", "main") for one in REPOS}
    return "".join(one for one, tree in trees.items() if "work" in tree.split())


def waves(run: dict[str, Any]) -> dict[int, str]:
    return {wave["number"]: wave["state"] for wave in run["waves"]}


def test_a_red_check_reverts_its_wave_and_the_rest_lands_when_it_is_mended(swept: Testbed):
    check = f"! test -e {swept.folder}/broken-$COORD_REPO"
    lands_in(swept, {"order": ["a", "b", "rest"], "check": check})
    (swept.folder / "broken-b").touch()
    preview = swept.ok("land", PLAN, "--dry-run", "--json").json
    assert [wave["repos"] for wave in preview["waves"]] == [["a"], ["b"], ["c"]]

    failed = land(swept)
    assert (failed.code, failed.json["status"], landed(swept)) == (3, "rolled_back", "a"), failed.err
    assert waves(failed.json) == {1: "landed", 2: "reverted", 3: "skipped"}
    assert failed.json["waves"][1]["carried_over"] == ["b"]
    report = swept.ok("show-run", "last", "--markdown").out
    assert "1 of 3 waves" in report
    assert "wave-2.after.check.b" in report

    (swept.folder / "broken-b").unlink()
    done = land(swept)
    assert (done.code, landed(swept)) == (0, "abc"), done.err
    assert waves(done.json) == {2: "landed", 3: "landed"}


def test_plans_land_wave_by_wave_and_a_red_wave_takes_back_its_plan_only(testbed: Testbed):
    """P changes a and b; Q builds on b, and changes b and c: the second wave."""
    for name in REPOS:
        path = testbed.repo(name)
        git(path, "clone", "-q", "--bare", str(path), str(testbed.folder / f"{name}.git"))
    work = {"P": ("a", "b"), "Q": ("b", "c")}
    todos = [
        {"id": f"{plan}-{repo}", "repo": repo, "plan": plan, "action": f"echo {plan} > {plan}"}
        for plan, repos in work.items()
        for repo in repos
    ]
    testbed.write(todos, repos={name: {"url": str(testbed.folder / f"{name}.git")} for name in REPOS})
    document = yaml.safe_load(testbed.file.read_text())
    document["coordination"]["plans"] = [{"id": plan, "title": plan} for plan in work]
    gated = {"take": "Q", "gate": True}
    check = f"! test -e {testbed.folder}/broken-$COORD_REPO"
    document["coordination"]["waves"] = [
        {"id": "REL-1", "title": "a release", "order": ["P", gated], "check": check}
    ]
    testbed.file.write_text(yaml.safe_dump(document))
    testbed.up()
    assert [testbed.coord("sweep", plan).code for plan in work] == [0, 0]
    assert {(one["plan"], one["wave"]) for one in testbed.ok("changes", "--json").json} == {
        ("P", 1),
        ("Q", 2),
    }

    run = testbed.coord("land", "REL-1", "--yes", "--json", "--detach").json["run_id"]
    gate = "REL-1.wave-2.locks"
    until(lambda: testbed.todo(gate, run)["state"] == "parked")
    refused = (("land", "Q", "--yes"), ("sweep", "Q", "--fresh", "--yes"))
    assert [testbed.coord(*words).code for words in refused] == [6, 6]
    (testbed.folder / "broken-c").touch()
    testbed.ok("approve", gate)
    until(lambda: testbed.run(run)["status"] == "rolled_back")
    assert waves(testbed.run(run)) == {1: "landed", 2: "reverted"}
    files = {
        one: git(testbed.folder / f"{one}.git", "ls-tree", "--name-only", "main").split() for one in REPOS
    }
    assert {one: set(names) & {"P", "Q"} for one, names in files.items()} == {
        "a": {"P"}, "b": {"P"}, "c": set(),
    }  # fmt: skip
    landed = {one["repo"]: one["landed"] for one in testbed.ok("changes", "P", "--json").json}
    assert {one["wave"] for one in landed.values()} == {1}

    (testbed.folder / "broken-c").unlink()
    again = testbed.coord("land", "REL-1", "--yes", "--json", "--detach").json["run_id"]
    until(lambda: testbed.todo(gate, again)["state"] == "parked")
    testbed.ok("approve", gate)
    until(lambda: testbed.run(again)["status"] == "succeeded")
    took = testbed.ok("revert", run, "--dry-run", "--json").json["repos"]
    assert [(one["plan"], one["repo"], one["wave"]) for one in took] == [("P", "b", 1), ("P", "a", 1)]
    back = testbed.coord("revert", "REL-1", "--yes", "--json")
    assert back.code == 0, back.err
    ended = {todo["id"]: todo["finished_at"] for todo in back.json["todos"]}
    assert max(ended["Q.revert.b"], ended["Q.revert.c"]) <= ended["REL-1.out.2"] <= ended["P.revert.b"]
    files = {
        one: git(testbed.folder / f"{one}.git", "ls-tree", "--name-only", "main").split() for one in REPOS
    }
    assert not {"P", "Q"} & {name for names in files.values() for name in names}
    assert {one["landed"] for one in testbed.ok("changes", "--json").json} == {None}
    assert testbed.coord("revert", "REL-1", "--yes").code == 2, "nothing of it stands"
