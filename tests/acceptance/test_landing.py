"""Stories: a plan lands by pushes, at once or wave by wave; a failure takes back what belongs together."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.ports import free_port
from tests.remotes import add_remotes, files, hook, remote
from tests.testbed import PLAN, Done, Testbed, git
from tests.waiting import until

REPOS = ("a", "b", "c")


@pytest.fixture
def swept(testbed: Testbed) -> Testbed:
    """Three repositories in a chain, with a bare remote each."""
    testbed.settings = {"land_patience": "60s"}
    before = {"b": ["T-a"], "c": ["T-b"]}
    testbed.write(
        [
            {"id": f"T-{name}", "repo": name, "action": "echo new > work", "blocked_by": before.get(name, [])}
            for name in REPOS
        ],
        repos=add_remotes(testbed, *REPOS),
    )
    testbed.up()
    assert testbed.sweep().code == 0
    return testbed


def land(testbed: Testbed, *words: str) -> Done:
    return testbed.coord("land", PLAN, "--yes", "--json", *words)


def landed(testbed: Testbed) -> str:
    """Return the repositories whose remotes have the work."""
    return "".join(name for name in REPOS if "work" in files(testbed, name))


def test_nothing_stays_landed_if_the_third_remote_refuses_and_all_lands_when_it_does_not(swept: Testbed):
    """Although the worker is killed after its first push: the next attempt knows what has arrived."""
    swept.ok("down")
    log = swept.folder / "points"
    points = f"land.push.after=kill,log={log}"
    swept.ok("up", "--detach", "--no-flower", "--no-dashboard", COORD_FAILPOINTS=points)
    # a push that changes nothing reaches no hook: the refusal comes after the others have landed
    refuses = hook(swept, "c", "pre-receive", "echo 'not today' >&2\nexit 1")
    refused = land(swept, "--via", "push")
    assert refused.code == 3
    assert refused.json["status"] == "rolled_back", refused.err
    assert "not today" in refused.err
    assert "land.push.after kill" in log.read_text()
    assert landed(swept) == ""
    assert len(git(remote(swept, "a"), "log", "--format=%H", "--first-parent", "main").split()) == 3
    reverted = git(remote(swept, "a"), "log", "--format=%B", "main")
    assert "Coord-Reverts" in reverted, "by a commit: history is never rewritten"

    refuses.unlink()
    done = land(swept)
    assert (done.code, landed(swept)) == (0, "abc"), done.err
    assert git(swept.folder / "a", "log", "--format=%s", "main") == "first", "the checkout is left alone"
    pull = f"git -C {swept.folder / 'a'} pull {remote(swept, 'a')} main"
    assert pull in done.err
    assert pull in swept.ok("show-run", "last").out


def test_a_remote_that_is_away_is_waited_for(swept: Testbed):
    port = free_port()
    with swept.edited() as file:
        file["repos"][1]["url"] = f"git://127.0.0.1:{port}/b.git"
    process = swept.begin("land", PLAN, "--yes", "--json")
    until(lambda: waits(swept))
    assert swept.coord("land", PLAN, "--yes").code == 6, "it goes on already"
    with swept.edited() as file:
        more = {"id": "MORE", "task": "x", "repo": "a", "plan": PLAN, "action": "true"}
        file["coordination"]["todos"].append(more)
    assert swept.coord("sweep", PLAN).code == 6, "the tips are frozen"

    with serving(swept, port):
        done = process.done(90)
    assert (done.code, landed(swept)) == (0, "abc"), done.err


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


def waves(run: dict[str, Any]) -> dict[int, str]:
    return {wave["number"]: wave["state"] for wave in run["waves"]}


def test_a_red_check_reverts_its_wave_and_the_rest_lands_when_it_is_mended(swept: Testbed):
    check = f"! test -e {swept.folder}/broken-$COORD_REPO"
    with swept.edited() as file:
        waves_of_plan = {"order": ["a", "b", "rest"], "check": check}
        file["coordination"]["plans"][0]["land"] = {"waves": waves_of_plan}
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


def plans_in(testbed: Testbed) -> dict[str, set[str]]:
    """Return the plans whose work each remote has."""
    return {name: {"P", "Q"}.intersection(files(testbed, name)) for name in REPOS}


def test_plans_land_wave_by_wave_and_a_red_wave_takes_back_its_plan_only(testbed: Testbed):
    """P changes a and b; Q builds on b, and changes b and c: the second wave."""
    work = {"P": ("a", "b"), "Q": ("b", "c")}
    todos = [
        {"id": f"{plan}-{repo}", "repo": repo, "plan": plan, "action": f"echo {plan} > {plan}"}
        for plan, repos in work.items()
        for repo in repos
    ]
    testbed.write(todos, repos=add_remotes(testbed, *REPOS))
    check = f"! test -e {testbed.folder}/broken-$COORD_REPO"
    order = ["P", {"take": "Q", "gate": True}]
    with testbed.edited() as file:
        file["coordination"]["plans"] = [{"id": plan, "title": plan} for plan in work]
        release = {"id": "REL-1", "title": "a release", "order": order, "check": check}
        file["coordination"]["waves"] = [release]
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
    assert plans_in(testbed) == {"a": {"P"}, "b": {"P"}, "c": set()}
    shown = {one["repo"]: one["landed"] for one in testbed.ok("changes", "P", "--json").json}
    assert {one["wave"] for one in shown.values()} == {1}

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
    assert plans_in(testbed) == {"a": set(), "b": set(), "c": set()}
    assert {one["landed"] for one in testbed.ok("changes", "--json").json} == {None}
    assert testbed.coord("revert", "REL-1", "--yes").code == 2, "nothing of it stands"
