"""A change that was wrong, mended in one of three places: `coord retry last` then does what failed and what
that held up.
"""

from __future__ import annotations

from collections.abc import Callable
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
        f"fix the cause in the file, on the repository's branch, or by a commit on coord/{run} in the "
        f"worktree",
        f"then run the rest: coord retry {run}",
    ]
    return run


def in_the_file(testbed: Testbed, run: str) -> None:
    testbed.file.write_text(testbed.file.read_text().replace("grep -qx right limit", "grep -qx wrong limit"))


def in_the_kept_worktree(testbed: Testbed, run: str) -> None:
    commit_mend(testbed.state / "worktrees" / run / "lib")


def on_the_repositorys_branch(testbed: Testbed, run: str) -> None:
    commit_mend(testbed.folder / "lib")


def commit_mend(folder: Path) -> None:
    (folder / "limit").write_text("right\n")
    git(folder, "commit", "-q", "-a", "-m", "the right limit")


@pytest.mark.parametrize("mend", [in_the_file, in_the_kept_worktree, on_the_repositorys_branch])
def test_after_the_mend_just_what_failed_and_what_that_held_up_runs(
    testbed: Testbed, mend: Callable[[Testbed, str], None]
) -> None:
    first = failed(testbed)
    before = {name: testbed.todo(name) for name in ("change", "apart")}
    mend(testbed, first)
    done = testbed.coord("retry", "last", "--json")

    assert done.code == 0, done.err
    second = done.json["run_id"]
    assert f"run {second} of {PLAN}: 2 todos of {first} again in 2 repositories on this host" in done.err
    assert sorted(testbed.ledger[:3]) == ["apart", "change", "test"]
    assert testbed.ledger[3:] == ["test", "use"]

    assert (done.json["status"], done.json["carried_from"]) == ("succeeded", first)
    assert {t["id"]: t["run"] for t in done.json["todos"]} == {
        "change": first,
        "apart": first,
        "test": None,
        "use": None,
    }
    assert {t["id"]: t["attempt"] for t in done.json["todos"]} == dict.fromkeys(
        ("change", "apart", "test", "use"), 1
    )
    assert all(done.todo(name) == {**facts, "run": first} for name, facts in before.items())
    assert done.json["bound_s"] <= done.json["duration_s"]

    told = [line for line in done.err.splitlines() if line.startswith("commits are on branch")]
    assert told == [f"commits are on branch coord/{PLAN} in app, lib, other"]
    lib = git(testbed.folder / "lib", "log", "--format=%s", f"coord/{PLAN}").splitlines()
    assert "change: do change" in lib
    assert ("the right limit" in lib) == (mend is not in_the_file)

    declared = yaml.safe_load(testbed.file.read_text())["coordination"]["todos"]
    assert {todo["id"]: todo["status"] for todo in declared} == dict.fromkeys(
        ("change", "test", "use", "apart"), "completed"
    )
    assert "now 2" in testbed.ok("logs", "last", "change").out
    again = testbed.coord("retry", "last")
    assert (again.code, again.err) == (
        0,
        f"nothing to do: all todos of run {second} are done\n",
    )


def test_a_retry_that_fails_is_retried_and_the_one_before_it_no_more(testbed: Testbed) -> None:
    first = failed(testbed)
    second = testbed.coord("retry", "last", "--json")
    assert second.code == 3
    refused = testbed.coord("retry", first)
    assert (refused.code, refused.err.splitlines()[0]) == (
        6,
        f"error: run {first} has a retry already, run {second.json['run_id']}",
    )

    in_the_kept_worktree(testbed, second.json["run_id"])
    third = testbed.coord("retry", "--json")
    assert third.code == 0, third.err
    assert third.todo("change")["run"] == first
    assert testbed.ledger[3:] == ["test", "test", "use"]


def test_what_cannot_be_retried_is_refused_with_what_can_be_done(testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    testbed.write([{"id": "slow", "repo": "a", "action": f"{gate.action}; exit 1"}])
    testbed.up()
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
    assert done.json["carried_from"] == first
    assert "no ecosystem.yaml here to update" in done.err
    assert testbed.ok("sync").err.startswith("2 todos ")


def test_a_program_retries_as_people_do(testbed: Testbed) -> None:
    first = failed(testbed)
    in_the_kept_worktree(testbed, first)
    with Coord(testbed.file) as coord:
        again = coord.runs.retry().wait(60)
        with pytest.raises(Blocked, match="are done"):
            coord.runs.retry(again.run_id)

    assert (again.status, again.carried_from) == ("succeeded", first)
    assert testbed.ledger[3:] == ["test", "use"]
