"""Stories: `coord retry` executes failed and skipped todos, or all from a todo on, in the planned order."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from coordination import Blocked, Coord
from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed, git

SAY = 'echo $COORD_TODO_ID >> "$LEDGER"; '
TODOS = [
    {"id": "change", "repo": "lib", "action": SAY + "echo now 2 | tee version"},
    {
        "id": "test",
        "repo": "lib",
        "action": SAY + "test -e version && grep -qx right limit",
        "blocked_by": ["change"],
    },
    {"id": "use", "repo": "app", "action": SAY + "echo used > uses", "blocked_by": ["test"]},
    {"id": "apart", "repo": "other", "action": SAY + "echo apart > result"},
]


def failed(testbed: Testbed) -> str:
    """The sweep in which the test of lib failed; returns its run."""
    testbed.repo("lib", limit="wrong\n")
    testbed.write(TODOS, plan={"on_failure": "continue"})
    testbed.up()
    done = testbed.sweep()

    assert done.code == 3, done.err
    assert done.states == {"change": "succeeded", "test": "failed", "use": "skipped", "apart": "succeeded"}
    run: str = done.json["run_id"]
    assert done.err.splitlines()[-2:] == [
        f"fix the cause in the file, on the repository's branch, or by a commit in the worktree, on the "
        f"branch of run {run}",
        f"then run the rest: coord retry {run}",
    ]
    return run


def commit_mend(folder: Path) -> None:
    (folder / "limit").write_text("right\n")
    git(folder, "commit", "-q", "-a", "-m", "the right limit")


def test_after_a_change_of_the_file_only_failed_and_skipped_todos_run(testbed: Testbed) -> None:
    first = failed(testbed)
    before = {name: testbed.todo(name) for name in ("change", "apart")}
    edit(testbed, "grep -qx right limit", "grep -qx wrong limit")
    done = testbed.coord("retry", "last", "--json")

    assert done.code == 0, done.err
    second = done.json["run_id"]
    assert f"run {second} of {PLAN}: 2 todos of {first} again in 2 repositories on this host" in done.err
    assert sorted(testbed.ledger[:3]) == ["apart", "change", "test"]
    assert testbed.ledger[3:] == ["test", "use"]

    assert (done.json["status"], done.json["carried_from"]) == ("succeeded", first)
    assert all(done.todo(name) == {**facts, "run": first} for name, facts in before.items())
    assert done.json["bound_s"] <= done.json["duration_s"]

    told = [line for line in done.err.splitlines() if line.startswith("commits are on branch")]
    assert told == [f"commits are on branch coord/{PLAN} in app, lib, other"]
    lib = git(testbed.folder / "lib", "log", "--format=%s", f"coord/{PLAN}").splitlines()
    assert "change: do change" in lib
    assert "the right limit" not in lib

    declared = yaml.safe_load(testbed.file.read_text())["coordination"]["todos"]
    assert {todo["id"]: todo["status"] for todo in declared} == dict.fromkeys(
        ("change", "test", "use", "apart"), "completed"
    )
    assert "now 2" in testbed.ok("logs", "last", "change").out
    again = testbed.coord("retry", "last")
    assert (again.code, again.err) == (0, f"nothing to do: all todos of run {second} are done\n")


def test_a_retry_that_fails_is_retried_itself_with_a_commit_of_the_kept_worktree(testbed: Testbed) -> None:
    first = failed(testbed)
    detached = testbed.ok("retry", "last", "--detach", "--json").json
    second = detached["run_id"]
    assert detached["carried_from"] == first
    assert testbed.coord("watch", second).code == 3
    refused = testbed.coord("retry", first)
    assert (refused.code, refused.err.splitlines()[0]) == (
        6,
        f"error: run {first} has a retry already, run {second}",
    )

    commit_mend(testbed.state / "worktrees" / second / "lib")
    with Coord(testbed.file) as coord:
        third = coord.runs.retry().wait(60)
        with pytest.raises(Blocked, match="are done"):
            coord.runs.retry(third.run_id)
    assert (third.status, third.carried_from) == ("succeeded", second)
    assert testbed.todo("change")["run"] == first
    assert testbed.ledger[3:] == ["test", "test", "use"]
    branch = f"coord/{PLAN}"
    assert "the right limit" in git(testbed.folder / "lib", "log", "--format=%s", branch).splitlines()
    undone = testbed.ok("rollback", "last", "--yes", "--detach", "--json").json
    assert undone["run_id"] == third.run_id
    assert testbed.coord("watch", "last").code == 3


def test_what_cannot_be_retried_is_refused_with_what_can_be_done(testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    testbed.write([{"id": "slow", "repo": "a", "action": f"{gate.action}; exit 1"}])
    testbed.up()
    no_runs = testbed.coord("show-run", "last")
    assert (no_runs.code, "did you mean" in no_runs.err) == (2, False)
    assert testbed.coord("retry", "nonsense").err.startswith("error: there is no run 'nonsense'")
    run = testbed.begin("sweep", PLAN)
    gate.wait()
    live = testbed.coord("retry", "last")
    assert live.code == 6
    assert "is running: there is nothing to retry before it has ended" in live.err
    assert "follow it: coord watch" in live.err
    gate.open()
    assert run.done().code == 3

    strange = testbed.coord("retry", "last", "--without", "nowhere")
    assert (strange.code, "has not worked on host nowhere" in strange.err) == (2, True)
    host = testbed.todo("slow")["worker"].partition("@")[2]
    there = testbed.coord("retry", "last", "--without", host)
    assert (there.code, f"host {host} is running" in there.err) == (6, True)

    testbed.file.write_text(testbed.file.read_text() + "resources: 1\n")
    assert testbed.coord("retry", "last").code == 2


def test_a_run_is_retried_from_anywhere_by_its_redis_and_without_the_file(
    testbed: Testbed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = failed(testbed)
    commit_mend(testbed.folder / "lib")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = testbed.coord("retry", "last", "--json", "--redis", testbed.server.start(), cwd=elsewhere)

    assert done.code == 0, done.err
    assert (done.json["carried_from"], done.states["test"]) == (first, "succeeded")
    assert "no ecosystem.yaml here to update" in done.err
    assert testbed.ok("run", "sync").err.startswith("2 todos ")


CHAIN = [
    {"id": "base", "repo": "lib", "action": SAY + "echo base > base"},
    {
        "id": "change",
        "repo": "lib",
        "action": SAY + "test -e base && echo one > version",
        "blocked_by": ["base"],
    },
    {"id": "check", "repo": "lib", "action": SAY + "grep . version", "blocked_by": ["change"]},
    {"id": "use", "repo": "app", "action": SAY + "echo used >> uses", "blocked_by": ["check"]},
    {"id": "apart", "repo": "other", "action": SAY + "echo apart > result"},
]


def edit(testbed: Testbed, old: str, new: str) -> None:
    text = testbed.file.read_text()
    assert old in text
    testbed.file.write_text(text.replace(old, new))


def test_a_succeeded_run_is_done_again_from_a_todo_on(testbed: Testbed) -> None:
    testbed.write(CHAIN)
    testbed.up()
    first = testbed.sweep()
    assert first.code == 0, first.err
    edit(testbed, "echo one", "echo two")
    done = testbed.coord("retry", "--from", "change", "--json")

    assert done.code == 0, done.err
    again, kept = {"change", "check", "use"}, {"base", "apart"}
    assert f"3 todos of {first.json['run_id']} again in " in done.err
    assert "; 2 carried over\n" in done.err
    assert "\n  run again although they succeeded: " in done.err
    assert sorted(testbed.ledger[5:]) == sorted(again)
    assert {t["id"] for t in done.json["todos"] if t["run"] == first.json["run_id"]} == kept
    branch = f"coord/{PLAN}"
    subjects = git(testbed.folder / "lib", "log", "--format=%s", branch).splitlines()
    assert subjects == ["change: do change", "base: do base", "first"]
    assert git(testbed.folder / "lib", "show", f"{branch}:version") == "two"
    assert git(testbed.folder / "app", "show", f"{branch}:uses") == "used"

    edit(testbed, "- check\n", "- change\n")
    changed = testbed.coord("retry", "--from", "use")
    assert (changed.code, changed.err) == (
        2,
        f"error: {PLAN} is no longer the plan of run {done.json['run_id']}: use now waits for change; "
        "use no longer waits for check\n"
        f"  start a new run: coord sweep {PLAN}; or keep the order of the run: "
        f"coord retry {done.json['run_id']} --as-it-was\n",
    )
    as_it_was = testbed.coord("retry", "--from", "use", "--as-it-was", "--json")
    assert as_it_was.code == 0, as_it_was.err
    assert testbed.ledger[8:] == ["use"]


def test_a_paused_run_goes_on_only_in_the_order_that_the_file_still_has(testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    todos = [
        {"id": "one", "repo": "a", "action": gate.action},
        {"id": "two", "repo": "b", "blocked_by": ["one"]},
        {"id": "three", "repo": "c"},
    ]
    testbed.write(todos)
    testbed.up()
    testbed.ok("sweep", PLAN, "--detach")
    gate.wait()
    testbed.ok("run", "pause")
    gate.open()
    run = testbed.run()["run_id"]
    edit(testbed, "- one\n", "- three\n")

    refused = testbed.coord("run", "resume")
    assert refused.code == 2
    assert "two now waits for three; two no longer waits for one" in refused.err
    assert f"coord run resume {run} --as-it-was" in refused.err
    assert testbed.run()["status"] == "paused"
    testbed.ok("run", "resume", "--as-it-was")
    assert testbed.coord("watch").code == 0
