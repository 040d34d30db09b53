"""A run that goes on is paused, resumed and cancelled from another terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gate import Gate
from tests.stage import Stage
from tests.waiting import until


@pytest.fixture
def gate(stage: Stage) -> Iterator[Gate]:
    """A run that has begun: its first todo waits at the gate, a second one follows in each of two
    repositories.
    """
    gate = Gate(stage.folder)
    stage.settings = {"kill_grace": "500ms"}
    stage.write(
        [
            {"id": "A", "repo": "api", "action": gate.action},
            {"id": "B", "repo": "api", "action": "true", "blocked_by": ["A"]},
            {"id": "C", "repo": "web", "action": "true", "blocked_by": ["A"]},
        ]
    )
    assert stage.sweep("--detach").code == 0
    gate.wait()
    yield gate
    gate.open()


def test_a_paused_run_lets_finish_what_runs_and_starts_nothing(stage: Stage, gate: Gate) -> None:
    assert stage.coord("pause").code == 0

    gate.open()
    until(lambda: stage.shown().states["A"] == "succeeded")
    paused = stage.shown()
    resumed = stage.coord("resume")
    watched = stage.coord("watch", "last", "--json")

    assert paused.json["status"] == "paused"
    assert {paused.states[name] for name in ("B", "C")} <= {"ready", "waiting", "parked"}
    assert resumed.code == 0
    assert watched.code == 0
    assert set(watched.states.values()) == {"succeeded"}


def test_what_a_run_has_in_hand_is_not_started_a_second_time(stage: Stage, gate: Gate) -> None:
    run_id = stage.run()["run_id"]

    second = stage.sweep()

    assert second.code == 6
    assert f"run {run_id} of PLAN-001 is running and executes" in second.err
    assert f"coord cancel {run_id}" in second.err


def test_a_file_that_is_being_edited_takes_no_run_out_of_hand(stage: Stage, gate: Gate) -> None:
    good = stage.file.read_text()
    stage.file.write_text(f"{good}\n  oops")

    cancelled = stage.coord("cancel")
    stage.file.write_text(good)

    assert cancelled.code == 0
    assert "its settings are not read" in cancelled.err
    assert stage.coord("watch", "--json").json["status"] == "cancelled"


def test_who_watches_a_paused_run_is_told_so_and_how_it_goes_on(stage: Stage, gate: Gate) -> None:
    assert stage.coord("pause").code == 0
    gate.open()
    watching = stage.begin("watch")

    told = watching.says("paused")
    run_id = stage.run()["run_id"]
    assert told.strip() == f"· the run is paused: coord resume {run_id}"
    assert stage.coord("resume", run_id).code == 0
    assert watching.wait(60) == 0


def test_a_cancelled_run_ends_with_what_runs_and_keeps_its_worktrees(stage: Stage, gate: Gate) -> None:
    pid = gate.wait()

    cancelled = stage.coord("cancel")
    watched = stage.coord("watch", "last", "--json")

    assert cancelled.code == 0
    assert watched.code == 1
    assert watched.json["status"] == "cancelled"
    assert watched.states == {"A": "cancelled", "B": "cancelled", "C": "cancelled"}
    assert re.fullmatch(r"cancelled by \S+@\S+", watched.todo("B")["error"])
    assert not Path(f"/proc/{pid}").exists()
    assert (stage.state / "worktrees" / watched.json["run_id"] / "api").is_dir()


def test_a_follower_sees_a_run_that_is_cancelled_elsewhere(stage: Stage, gate: Gate) -> None:
    watch = stage.begin("watch")
    gate.wait()

    stage.coord("cancel")
    ended = watch.done(30)

    assert ended.code == 1
    assert "cancelled" in ended.out
    assert "A  api" in ended.err


def test_a_cancel_returns_when_nothing_runs_any_more_and_needs_no_heartbeat_for_it(stage: Stage) -> None:
    gate = Gate(stage.folder)
    stage.settings = {"heartbeat": "60s", "lease_ttl": "3m"}
    stage.write(
        [{"id": "A", "repo": "api", "action": gate.action}, {"id": "B", "repo": "api", "blocked_by": ["A"]}]
    )
    assert stage.sweep("--detach").code == 0
    pid = gate.wait()

    cancelled = stage.coord("cancel", "--json", timeout=30)

    assert cancelled.code == 0
    assert not Path(f"/proc/{pid}").exists()
    assert cancelled.json["status"] == "cancelled"
    assert cancelled.states == {"A": "cancelled", "B": "cancelled"}


def test_a_run_whose_worker_died_can_be_cancelled_with_nobody_there(stage: Stage) -> None:
    gate = Gate(stage.folder)
    stage.settings = {"heartbeat": "200ms", "lease_ttl": "8s"}
    stage.write([{"id": "A", "repo": "api", "action": gate.action}])
    assert stage.sweep("--detach").code == 0
    gate.wait()
    stage.kill("worker")

    cancelled = stage.coord("cancel", "--json", timeout=30)
    watched = stage.coord("watch")

    assert (cancelled.code, cancelled.json["status"]) == (0, "cancelled")
    assert "A ran on" in cancelled.err or "A is being stopped" in cancelled.err
    assert "lost its worker" not in cancelled.err
    assert re.search(r"! A lost its worker \S+: it is given up\n", watched.err)


def test_what_cannot_be_done_to_a_run_is_refused_with_the_reason(stage: Stage, gate: Gate) -> None:
    run_id = stage.run()["run_id"]
    running = stage.coord("resume")
    stage.ok("pause")
    paused = stage.coord("pause")
    cancelling = stage.coord("cancel", "--no-wait")
    stage.coord("watch")
    ended = stage.coord("cancel")

    assert (running.code, f"run {run_id} cannot be resumed: it is running" in running.err) == (6, True)
    assert (paused.code, f"run {run_id} is paused already\n  continue it: coord resume" in paused.err) == (
        6,
        True,
    )
    assert (cancelling.code, f"run {run_id} is being cancelled" in cancelling.err) == (0, True)
    assert (ended.code, f"run {run_id} cannot be cancelled: it ended as cancelled at 20" in ended.err) == (
        6,
        True,
    )


def test_a_resumed_run_that_nobody_serves_says_so_until_the_next_command_has_started_a_worker(
    stage: Stage, gate: Gate
) -> None:
    stage.ok("pause")
    paused = stage.ok("show-run")
    gate.open()
    until(lambda: stage.shown().states["A"] == "succeeded")
    stage.ok("down")

    resumed = stage.ok("resume")

    assert "· the run is paused: coord resume" in paused.err
    assert "it waits for a worker for api: none serves it\n  coord worker --repo api=PATH" in resumed.err
    stage.up()
    assert stage.coord("watch").code == 0
