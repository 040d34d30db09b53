"""Stories: a plan lands wave by wave; a failure takes its wave back, and no other."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.stage import PLAN, Done, Stage, git
from tests.waiting import until

REPOS = ("a", "b", "c")


@pytest.fixture
def swept(stage: Stage) -> Stage:
    """Three repositories in a chain, with a bare remote each, whose work is done."""
    repos = {}
    for name in REPOS:
        path = stage.repo(name)
        git(path, "clone", "-q", "--bare", str(path), str(stage.folder / f"{name}.git"))
        repos[name] = {"url": str(stage.folder / f"{name}.git")}
    before = {"b": ["T-a"], "c": ["T-b"]}
    todos = [
        {"id": f"T-{name}", "repo": name, "action": "echo new > work", "blocked_by": before.get(name, [])}
        for name in REPOS
    ]
    stage.write(todos, repos=repos)
    stage.up()
    assert stage.sweep().code == 0
    return stage


def lands_in(stage: Stage, waves: Any, **rules: Any) -> None:
    document = yaml.safe_load(stage.file.read_text())
    document["coordination"]["plans"][0]["land"] = {"waves": waves, **rules}
    stage.file.write_text(yaml.safe_dump(document))


def land(stage: Stage, *words: str) -> Done:
    return stage.coord("land", PLAN, "--yes", "--json", *words)


def landed(stage: Stage) -> str:
    """Return the repositories whose remotes have the work."""
    trees = {one: git(stage.folder / f"{one}.git", "ls-tree", "--name-only", "main") for one in REPOS}
    return "".join(one for one, tree in trees.items() if "work" in tree.split())


def waves(run: dict[str, Any]) -> dict[int, str]:
    return {wave["number"]: wave["state"] for wave in run["waves"]}


def test_a_red_check_reverts_its_wave_and_the_rest_lands_when_it_is_mended(swept: Stage):
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


def test_plans_land_wave_by_wave_and_a_red_wave_takes_back_its_plan_only(stage: Stage):
    """P changes a and b; Q builds on b, and changes b and c: the second wave."""
    for name in REPOS:
        path = stage.repo(name)
        git(path, "clone", "-q", "--bare", str(path), str(stage.folder / f"{name}.git"))
    work = {"P": ("a", "b"), "Q": ("b", "c")}
    todos = [
        {"id": f"{plan}-{repo}", "repo": repo, "plan": plan, "action": f"echo {plan} > {plan}"}
        for plan, repos in work.items()
        for repo in repos
    ]
    stage.write(todos, repos={name: {"url": str(stage.folder / f"{name}.git")} for name in REPOS})
    document = yaml.safe_load(stage.file.read_text())
    document["coordination"]["plans"] = [{"id": plan, "title": plan} for plan in work]
    gated = {"take": "Q", "gate": True}
    check = f"! test -e {stage.folder}/broken-$COORD_REPO"
    document["coordination"]["waves"] = [
        {"id": "REL-1", "title": "a release", "order": ["P", gated], "check": check}
    ]
    stage.file.write_text(yaml.safe_dump(document))
    stage.up()
    assert [stage.coord("sweep", plan).code for plan in work] == [0, 0]
    assert {(one["plan"], one["wave"]) for one in stage.ok("changes", "--json").json} == {("P", 1), ("Q", 2)}

    run = stage.coord("land", "REL-1", "--yes", "--json", "--detach").json["run_id"]
    gate = "REL-1.wave-2.locks"
    until(lambda: stage.todo(gate, run)["state"] == "parked")
    refused = (("land", "Q", "--yes"), ("sweep", "Q", "--fresh", "--yes"))
    assert [stage.coord(*words).code for words in refused] == [6, 6]
    (stage.folder / "broken-c").touch()
    stage.ok("approve", gate)
    until(lambda: stage.run(run)["status"] == "rolled_back")
    assert waves(stage.run(run)) == {1: "landed", 2: "reverted"}
    files = {one: git(stage.folder / f"{one}.git", "ls-tree", "--name-only", "main").split() for one in REPOS}
    assert {one: set(names) & {"P", "Q"} for one, names in files.items()} == {
        "a": {"P"}, "b": {"P"}, "c": set(),
    }  # fmt: skip
    landed = {one["repo"]: one["landed"] for one in stage.ok("changes", "P", "--json").json}
    assert {one["wave"] for one in landed.values()} == {1}

    (stage.folder / "broken-c").unlink()
    again = stage.coord("land", "REL-1", "--yes", "--json", "--detach").json["run_id"]
    until(lambda: stage.todo(gate, again)["state"] == "parked")
    stage.ok("approve", gate)
    until(lambda: stage.run(again)["status"] == "succeeded")
    took = stage.ok("revert", run, "--dry-run", "--json").json["repos"]
    assert [(one["plan"], one["repo"], one["wave"]) for one in took] == [("P", "b", 1), ("P", "a", 1)]
    back = stage.coord("revert", "REL-1", "--yes", "--json")
    assert back.code == 0, back.err
    ended = {todo["id"]: todo["finished_at"] for todo in back.json["todos"]}
    assert max(ended["Q.revert.b"], ended["Q.revert.c"]) <= ended["REL-1.out.2"] <= ended["P.revert.b"]
    files = {one: git(stage.folder / f"{one}.git", "ls-tree", "--name-only", "main").split() for one in REPOS}
    assert not {"P", "Q"} & {name for names in files.values() for name in names}
    assert {one["landed"] for one in stage.ok("changes", "--json").json} == {None}
    assert stage.coord("revert", "REL-1", "--yes").code == 2, "nothing of it stands"
