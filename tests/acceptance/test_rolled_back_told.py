"""What people see of a rollback: before it, while it goes on, when it is stuck, and when all is undone."""

from __future__ import annotations

import signal

from coordination import Coord
from tests.acceptance.gate import Gate
from tests.stage import PLAN, Stage, git
from tests.waiting import until

DEPLOY = {
    "workspace": "in-place",
    "action": "echo deployed >> $LEDGER",
    "compensate": 'test -e ../mended || { echo "no such bucket"; exit 4; }; echo withdrawn >> $LEDGER',
}


def test_a_sweep_that_fails_is_undone_and_says_so(stage: Stage) -> None:
    stage.write(
        [
            {"id": "A", "repo": "api", "action": "echo a > a"},
            {"id": "B", "repo": "web", "blocked_by": ["A"], **DEPLOY, "compensate": "echo withdrawn >> $LEDGER"},
            {"id": "C", "repo": "api", "blocked_by": ["B"], "action": "exit 7"},
            {"id": "D", "repo": "api", "blocked_by": ["C"]},
        ],
        plan={"on_failure": "rollback"},
    )

    rehearsed = stage.ok("sweep", PLAN, "--dry-run")
    swept = stage.coord("sweep", PLAN)
    shown = stage.shown()
    run_id = shown.json["run_id"]

    assert "echo withdrawn >> $LEDGER" in rehearsed.out
    assert "the run's branch and worktree go" in rehearsed.out
    assert swept.code == 3
    assert "✗ C  api" in swept.err
    assert "↶ what was begun is undone: C failed: exit code 7" in swept.err
    assert "↶ B  web  undone" in swept.err
    assert "everything that it had begun was undone" in swept.err
    assert f"run {run_id} of {PLAN} rolled_back by levels" in swept.out
    assert shown.states == {"A": "compensated", "B": "compensated", "C": "compensated", "D": "skipped"}
    assert [shown.todo(t)["was"] for t in "ABC"] == ["succeeded", "succeeded", "failed"]
    assert stage.ledger == ["deployed", "withdrawn"]
    assert git(stage.folder / "api", "branch", "--list", "coord/*") == ""
    assert "status: completed" not in stage.file.read_text()


def test_a_finished_run_is_undone_and_what_cannot_be_is_seen_until_it_is(stage: Stage) -> None:
    stage.settings = {"retry_delay": "1ms"}
    stage.write(
        [
            {"id": "A", "repo": "api", "action": "echo a > a"},
            {"id": "B", "repo": "web", "blocked_by": ["A"], **DEPLOY},
            {"id": "C", "repo": "api", "blocked_by": ["B"], "status": "completed", "actual_hours": 3},
        ]
    )
    stage.up()
    stage.ok("sweep", PLAN)
    run_id = stage.run()["run_id"]
    assert stage.file.read_text().count("status: completed") == 3

    stuck = stage.coord("rollback", run_id)
    doctor = stage.coord("doctor")
    refusals = [
        stage.coord(*words)
        for words in (("retry", run_id), ("clean", run_id, "--yes"), ("rollback", run_id, "--accept", "B"),
                      ("rollback", run_id, "--accept", "A", "--reason", "x"))
    ]  # fmt: skip
    listed = stage.ok("list-runs")

    assert stuck.code == 3
    assert f"2 todos of run {run_id} in api, web: undone in reverse order" in stuck.err
    assert "✗ B  web  could not be undone: exit code 4" in stuck.err
    assert "  | no such bucket" in stuck.err
    assert f'coord rollback {run_id} --accept B --reason "…"' in stuck.err
    assert "rollback_failed" in listed.out
    assert (doctor.code, f"run {run_id} of {PLAN} is half undone: B could not be undone" in doctor.out) == (1, True)
    assert [refused.code for refused in refusals] == [6, 6, 2, 6]
    assert stage.file.read_text().count("status: completed") == 3

    (stage.folder / "mended").touch()
    undone = stage.coord("rollback", run_id, "--json")
    again = stage.ok("rollback", run_id)

    assert (undone.code, undone.json["status"]) == (0, "rolled_back")
    assert undone.states == {"A": "compensated", "B": "compensated"}
    assert "pending again in" in undone.err
    assert f"run {run_id} was rolled back already" in again.err
    assert stage.ledger == ["deployed", "withdrawn"]
    text = stage.file.read_text()
    assert (text.count("status: completed"), text.count("status: pending"), text.count("actual_hours")) == (1, 2, 1)
    assert git(stage.folder / "api", "branch", "--list", "coord/*") == ""


def test_a_rollback_is_left_going_by_whoever_has_seen_enough_and_goes_in_one_direction(stage: Stage) -> None:
    gate = Gate(stage.folder)
    stage.write(
        [{"id": "A", "repo": "web", **DEPLOY, "compensate": gate.action}, {"id": "B", "repo": "api", "action": "true"}]
    )
    stage.up()
    stage.ok("sweep", PLAN)
    run_id = stage.run()["run_id"]

    following = stage.begin("rollback", run_id)
    gate.wait()
    shown = stage.shown(run_id)
    refused = [stage.coord(word, run_id) for word in ("pause", "resume", "cancel")]
    again = stage.begin("rollback", run_id)
    assert again.says("is being rolled back already")
    following.send_signal(signal.SIGINT)
    left = following.done()

    assert (shown.json["status"], shown.states["A"]) == ("rolling_back", "compensating")
    assert [one.code for one in refused] == [6, 6, 6]
    assert f"run {run_id} cannot be cancelled: it is being rolled back, and goes on in that direction" in refused[2].err
    assert (left.code, f"what the run did is being undone: coord watch {run_id}" in left.err) == (130, True)
    gate.open()
    assert again.done().code == 0
    with Coord(stage.file) as coord:
        assert coord.runs.rollback(run_id).wait(30).status == "rolled_back"
    until(lambda: stage.file.read_text().count("status: pending") == 2)
