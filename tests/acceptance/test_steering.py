"""A run that goes on is paused, resumed and cancelled from another terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gate import Gate
from tests.acceptance.workplace import Workplace
from tests.waiting import until


@pytest.fixture
def gate(place: Workplace) -> Iterator[Gate]:
    """A run that has begun: its first todo waits at the gate, a second one follows in each of two repositories."""
    gate = Gate(place.folder)
    place.declare(
        {
            "A": {"repo": "api", "action": gate.action},
            "B": {"repo": "api", "action": "true", "blocked_by": ["A"]},
            "C": {"repo": "web", "action": "true", "blocked_by": ["A"]},
        },
        kill_grace="500ms",
    )
    assert place.sweep("--detach").code == 0
    gate.wait()
    yield gate
    gate.open()


def test_a_paused_run_lets_finish_what_runs_and_starts_nothing(place: Workplace, gate: Gate) -> None:
    assert place.coord("pause").code == 0

    gate.open()
    until(lambda: place.coord("show-run", "last", "--json").states["A"] == "succeeded")
    paused = place.coord("show-run", "last", "--json")
    resumed = place.coord("resume")
    watched = place.coord("watch", "last", "--json")

    assert paused.data["status"] == "paused"
    assert {paused.states[name] for name in ("B", "C")} <= {"ready", "waiting", "parked"}
    assert resumed.code == 0
    assert watched.code == 0
    assert set(watched.states.values()) == {"succeeded"}


def test_what_a_run_has_in_hand_is_not_started_a_second_time(place: Workplace, gate: Gate) -> None:
    run_id = place.coord("show-run", "--json").data["run_id"]

    second = place.sweep()

    assert second.code == 6
    assert f"run {run_id} of PLAN-001 is running and has" in second.err
    assert f"coord cancel {run_id}" in second.err


def test_a_file_that_is_being_edited_takes_no_run_out_of_hand(place: Workplace, gate: Gate) -> None:
    good = place.file.read_text()
    place.file.write_text(f"{good}\n  oops")

    cancelled = place.coord("cancel")
    place.file.write_text(good)

    assert cancelled.code == 0
    assert "its settings are not read" in cancelled.err
    assert place.coord("watch", "--json").data["status"] == "cancelled"


def test_who_watches_a_paused_run_is_told_so_and_how_it_goes_on(place: Workplace, gate: Gate) -> None:
    assert place.coord("pause").code == 0
    gate.open()
    watching = place.begin("watch")
    assert watching.stderr is not None

    told = next(line for line in watching.stderr if "paused" in line)
    run_id = place.coord("show-run", "--json").data["run_id"]
    assert told.strip() == f"· the run is paused: coord resume {run_id}"
    assert place.coord("resume", run_id).code == 0
    assert watching.wait(20) == 0


def test_a_cancelled_run_ends_with_what_runs_and_keeps_its_worktrees(place: Workplace, gate: Gate) -> None:
    pid = gate.wait()

    cancelled = place.coord("cancel")
    watched = place.coord("watch", "last", "--json")

    assert cancelled.code == 0
    assert watched.code == 1
    assert watched.data["status"] == "cancelled"
    assert watched.states == {"A": "cancelled", "B": "cancelled", "C": "cancelled"}
    assert re.fullmatch(r"cancelled by \S+@\S+", watched.todo("B")["error"])
    assert not Path(f"/proc/{pid}").exists()
    assert (place.state / "worktrees" / watched.data["run_id"] / "api").is_dir()


def test_a_follower_sees_a_run_that_is_cancelled_elsewhere(place: Workplace, gate: Gate) -> None:
    watch = place.begin("watch")
    gate.wait()

    place.coord("cancel")
    out, err = watch.communicate(timeout=30)

    assert watch.returncode == 1
    assert "cancelled" in out
    assert "A  api" in err
