"""Views of todos: the reason of a wait; the waves of a landing and their report."""

from __future__ import annotations

import pytest

from coordination.cli.runs.inspection import as_markdown
from coordination.errors import Unreadable
from coordination.runs.records import Descriptor, RunStatus, TodoState, WaitReason
from coordination.runs.views.levels_and_waves import waves_of
from coordination.runs.views.records import RunView, TodoView
from coordination.runs.views.run_view import readable
from coordination.runs.views.todo_view import iso, view_of_todo

MINUTE = {"started_at": "2026-01-01T10:00:00+00:00", "finished_at": "2026-01-01T10:01:00+00:00"}


def todo(name: str, state: TodoState, repo: str = "", **more: object) -> TodoView:
    return TodoView.model_validate(
        {"id": f"P.wave-{name}", "repo": repo, "state": state, "attempt": 1, **more}
    )


TODOS = (
    todo("1.land.a", TodoState.SUCCEEDED, "a", duration_s=40.0, **MINUTE),
    todo("1.after.check.a", TodoState.SUCCEEDED, "a", duration_s=20.0),
    todo("1.done", TodoState.SUCCEEDED),
    todo("2.land.b", TodoState.COMPENSATED, "b", was=TodoState.SUCCEEDED),
    todo("2.after.check.b", TodoState.FAILED, "b", error="exit code 1 | sad"),
    todo("3.land.c", TodoState.SKIPPED, "c"),
)
EXPECTED = {"P.wave-1.land.a": "30000 learned", "P.wave-1.after.check.a": "5000 assumed"}


def test_a_wave_has_its_times_checks_failures_and_what_is_left():
    one, two, three = waves_of("land:P", TODOS, EXPECTED, ended=True)
    assert [wave.state for wave in (one, two, three)] == ["landed", "reverted", "skipped"]
    assert (one.work_s, one.expected_s, one.checks, one.carried_over) == (60.0, 30.0, {"succeeded": 1}, ())
    assert [(failure.todo, failure.error) for failure in two.failures] == [
        ("P.wave-2.after.check.b", "exit code 1 | sad")
    ]
    assert (two.carried_over, three.carried_over) == (("b",), ("c",))
    assert waves_of("P", TODOS, EXPECTED, ended=True) == (), "a sweep has none"


def test_the_report_has_a_section_for_each_wave():
    run = RunView.model_construct(
        run_id="r", plan_id="land:P", status=RunStatus.ROLLED_BACK, started_at=MINUTE["started_at"],
        waves=waves_of("land:P", TODOS, EXPECTED, ended=True),
    )  # fmt: skip
    _, *sections = as_markdown(run).split("\n## ")
    assert [section.partition("\n")[0] for section in sections] == [
        "Wave 1: landed", "Wave 2: reverted", "Wave 3: skipped",
    ]  # fmt: skip
    assert "| a | succeeded |" in sections[0]
    assert "exit code 1 | sad".replace("|", "\\|") in sections[1]
    assert "Carried over: c" in sections[2]


def test_a_todo_shown_as_running_does_not_wait_for_what_parked_it_since():
    facts = {"attempt": "1", "waits_for": "service api to come up", "wait_reason": "service"}
    place = Descriptor(order="0", level=0, repo="api", kind="service", priority="0", locks="")

    parked, running = (
        view_of_todo("A", state, place, facts, None) for state in (TodoState.PARKED, TodoState.RUNNING)
    )

    assert (parked.waits_for, parked.wait_reason) == ("service api to come up", WaitReason.SERVICE)
    assert (running.waits_for, running.wait_reason) == (None, None)


@pytest.mark.parametrize("moment", ["9" * 20, "9" * 400, "-" + "9" * 20, "9" * 15, "soon"])
def test_a_time_that_cannot_be_read_is_damage_of_that_run(moment: str):
    with pytest.raises(Unreadable), readable("r"):
        iso(moment)
