"""Ctrl-C in a sweep: on a terminal it asks, elsewhere it cancels, and a second one leaves at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordination.backend.daemon import alive
from tests.acceptance.gate import Gate
from tests.terminals import Terminal
from tests.testbed import PLAN, Testbed
from tests.waiting import until

CTRL_C = b"\x03"
STUBBORN = "trap '' TERM; "


@pytest.fixture(autouse=True)
def as_a_terminal_starts_us() -> Iterator[None]:
    """Restore SIGINT, which is ignored if the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def gate(testbed: Testbed) -> Gate:
    """The plan's first todo waits at it; a second one follows."""
    gate = Gate(testbed.folder)
    testbed.settings = {"kill_grace": "500ms"}
    testbed.write(
        [
            {"id": "A", "repo": "api", "action": gate.action},
            {"id": "B", "repo": "api", "action": "true", "blocked_by": ["A"]},
        ]
    )
    return gate


@pytest.mark.parametrize("answer", ["leave", "cancel"])
def test_on_a_terminal_the_run_can_be_left_going_or_cancelled(
    testbed: Testbed, gate: Gate, answer: str
) -> None:
    terminal = Terminal(testbed, "sweep", PLAN)
    shell = gate.wait()

    terminal.press(CTRL_C)
    terminal.until_it_shows("[l]eave the run going, or [c]ancel it?")
    terminal.press(f"{answer[0]}\n".encode())

    assert terminal.until_it_ends() == 130
    assert alive(shell) == (answer == "leave")
    if answer == "cancel":
        assert testbed.shown().json["status"] == "cancelled"
        assert testbed.shown().states == {"A": "cancelled", "B": "cancelled"}
        return
    assert "the run continues; follow it: coord watch" in terminal.shown
    gate.open()
    watched = testbed.coord("watch", "last", "--json")
    assert (watched.code, watched.states) == (0, {"A": "succeeded", "B": "succeeded"})
    assert testbed.file.read_text().count("status: completed") == 2


def test_at_the_question_a_run_that_has_ended_meanwhile_does_not_continue(
    testbed: Testbed, gate: Gate
) -> None:
    terminal = Terminal(testbed, "sweep", PLAN)
    gate.wait()
    terminal.press(CTRL_C)
    terminal.until_it_shows("[l]eave the run going, or [c]ancel it?")
    testbed.ok("cancel", "last")
    until(lambda: testbed.run()["status"] == "cancelled")

    terminal.press(b"l\n")

    assert terminal.until_it_ends() == 130
    assert "the run has ended meanwhile" in terminal.shown
    assert "the run continues" not in terminal.shown


def test_a_second_ctrl_c_at_the_question_leaves_at_once(testbed: Testbed, gate: Gate) -> None:
    terminal = Terminal(testbed, "sweep", PLAN)
    shell = gate.wait()

    terminal.press(CTRL_C)
    terminal.until_it_shows("[l]eave the run going, or [c]ancel it?")
    terminal.press_until_it_shows(CTRL_C, "coord down")

    assert terminal.until_it_ends() == 130
    assert alive(shell)
    gate.open()


def test_off_a_terminal_an_interruption_cancels_the_run(testbed: Testbed, gate: Gate) -> None:
    sweep = testbed.begin("sweep", PLAN, "--json")
    shell = gate.wait()

    sweep.send_signal(signal.SIGINT)
    ended = sweep.done(60)

    assert ended.code == 130
    assert ended.json["status"] == "cancelled"
    assert "cancelling; press Ctrl-C again to leave at once" in ended.err
    assert not alive(shell)
    until(lambda: not list(testbed.alive()))


def test_a_second_interruption_leaves_at_once(testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    testbed.settings = {"kill_grace": "60s"}
    testbed.write([{"id": "A", "repo": "api", "action": STUBBORN + gate.action}])
    sweep = testbed.begin("sweep", PLAN)
    shell = gate.wait()
    sweep.send_signal(signal.SIGINT)
    sweep.says("cancelling")

    sweep.send_signal(signal.SIGINT)
    ended = sweep.done(60)

    assert ended.code == 130
    assert "coord down" in ended.err
    assert alive(shell)
    os.kill(shell.pid, signal.SIGKILL)


def test_a_sweep_that_is_terminated_says_that_its_run_goes_on_and_exits_as_interrupted(
    testbed: Testbed, tmp_path: Path
):
    hold = Gate(tmp_path)
    testbed.write([{"id": "A", "repo": "api", "action": hold.action}])
    sweep = testbed.begin("sweep", PLAN)
    hold.wait()

    sweep.terminate()
    done = sweep.done()

    run = testbed.run()
    assert (done.code, run["status"]) == (130, "running")
    assert f"coord watch {run['run_id']}" in done.err
    hold.open()
    assert testbed.ok("watch", "last", "--json").json["status"] == "succeeded"
