"""The story *agents*: one sentence becomes a change that has landed in three repositories."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.testbed import Done, Testbed, git

NewTestbed = Callable[[], Testbed]


@pytest.fixture(scope="module")
def shown(new_testbed: NewTestbed) -> tuple[Testbed, Done]:
    """`coord demo --agents DIR`, carried out, by a person who works on another file."""
    testbed, other = new_testbed(), new_testbed()
    other.write([{"id": "TODO-001", "repo": "r"}], plan={"id": "PLAN-001"})
    return testbed, testbed.coord(
        "demo", "--agents", str(testbed.folder), cwd=testbed.folder.parent, COORD_ECOSYSTEM=str(other.file)
    )


def test_the_sentence_becomes_a_plan_that_is_shown_before_it_is_written(shown: tuple[Testbed, Done]) -> None:
    _, done = shown

    assert done.code == 0, done.out + done.err
    assert done.out.index("+  plans:") < done.out.index("verify: tests")


def test_a_red_check_goes_back_to_the_agent_and_a_person_answers_its_question(
    shown: tuple[Testbed, Done],
) -> None:
    testbed, done = shown
    sweep = next(run for run in testbed.ok("list-runs", "--json").json if run["plan_id"] == "PLAN-001")
    run = testbed.ok("show-run", sweep["run_id"], "--json").json

    assert "verify failed: tests" in done.out
    assert {todo["id"]: (todo["state"], todo["attempt"]) for todo in run["todos"]} == {
        f"TODO-00{number}": ("succeeded", 1) for number in (1, 2, 3)
    }
    assert [todo["usage"]["rounds"] for todo in run["todos"]] == [2, 2, 1]
    assert "which sign draws the line" in done.err


def test_the_change_has_landed_everywhere_and_is_right(shown: tuple[Testbed, Done]) -> None:
    testbed, _ = shown

    for name in ("report", "text", "units"):
        assert git(testbed.folder / name, "status", "--porcelain") == ""
        assert git(testbed.folder / name, "log", "--format=%s", "-1", "main").startswith("Land PLAN-001")
    assert '"=" * each' in git(testbed.folder / "text", "show", "main:src/meter_text/table.py")
    assert "total" in git(testbed.folder / "report", "show", "main:src/meter_report/usage.py")


def test_it_costs_what_the_agent_has_said(shown: tuple[Testbed, Done]) -> None:
    testbed, _ = shown
    costs = {one["name"]: one["used"] for one in testbed.ok("costs", "--json").json}

    assert costs["PLAN-001"]["rounds"] == 5
    assert costs["PLAN-001"]["micro_usd"] == 100_000
