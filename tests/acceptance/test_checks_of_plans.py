"""Quality checks before and behind the todos of a plan, by real runs: blocked, allowed, known, retried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from coordination import Coord
from coordination.runs.change_sets.records import CheckResult, CheckVerdict
from tests.stage import PLAN, Done, Stage

TESTED = (
    "{ echo '<testsuite>'; while read name ends; do echo \"<testcase name='$name'>\"; "
    "test $ends = ok || echo '<failure/>'; echo '</testcase>'; done < tests; echo '</testsuite>'; } > r.xml"
)
REPOS = {"low": {"qa": {"name": "unit", "run": TESTED, "report": "r.xml"}}}
BEFORE, AFTER = f"{PLAN}.qa.before.low.unit", f"{PLAN}.qa.low.unit"
ADDS = {"id": "A", "repo": "low", "action": "echo 'new ok' >> tests"}
BREAKS = {"id": "B", "repo": "low", "action": "sed -i s/good.ok/good.bad/ tests", "blocked_by": ["A"]}


@pytest.fixture
def stage_of_debt(stage: Stage) -> Iterator[Stage]:
    stage.repo("low", tests="old bad\ngood ok\n")
    stage.write([ADDS], repos=REPOS, plan={"status": "active", "qa": "both"})
    stage.up()
    yield stage
    stage.ok("down")


def edit(stage: Stage, **plan: Any) -> None:
    document = yaml.safe_load(stage.file.read_text())
    document["coordination"]["plans"][0].update(plan)
    stage.file.write_text(yaml.safe_dump(document, sort_keys=False))


def add(stage: Stage, *todos: dict[str, Any]) -> None:
    document = yaml.safe_load(stage.file.read_text())
    document["coordination"]["todos"] += [{"task": "t", "plan": PLAN, **todo} for todo in todos]
    stage.file.write_text(yaml.safe_dump(document, sort_keys=False))


def checks(stage: Stage) -> dict[str, tuple[str, bool]]:
    report = stage.coord("show-qa", "last", "--json").json
    return {check["todo"]: (check["verdict"], check["known"]) for check in report["checks"]}


def missing(stage: Stage) -> list[str]:
    done: Done = stage.coord("validate-plan", PLAN, "--json")
    return list(done.json["missing"])


def test_what_is_red_before_blocks_is_allowed_and_is_no_excuse_for_more(stage_of_debt: Stage):
    stage = stage_of_debt
    blocked = stage.sweep()
    assert (blocked.code, blocked.states["A"]) == (3, "skipped")
    assert checks(stage)[BEFORE] == ("red", False)

    edit(stage, qa="after")
    assert stage.sweep().code == 3
    assert checks(stage) == {AFTER: ("red", False)}
    assert missing(stage) == ["check unit of low is red (1 of 3 tests failed)"]
    refused = stage.coord("update-plan", PLAN, "--status", "completed")
    assert (refused.code, "check unit of low is red" in refused.err) == (3, True)


def test_still_possible_redis_shows_a_red_check_as_green_to_a_person(stage_of_debt: Stage):
    stage = stage_of_debt
    edit(stage, qa="after")
    assert stage.sweep().code == 3
    with Coord(stage.file) as coord, coord.reached() as connection:
        keys = connection.keys.run(coord.runs.get("last").id)
        connection.redis.hset(keys.state, AFTER, "succeeded")
        connection.redis.hset(keys.output, AFTER, CheckResult(verdict=CheckVerdict.GREEN).written())

    assert checks(stage) == {AFTER: ("green", False)}
    assert missing(stage) == []


def test_tests_that_failed_before_may_fail_and_no_others(stage_of_debt: Stage):
    stage = stage_of_debt
    edit(stage, qa={"when": "both", "allow_red": True})

    add(stage, {"id": "Z", "repo": "low", "action": f"test -e {stage.folder}/ready", "blocked_by": ["A"]})
    assert stage.sweep().states == {
        BEFORE: "succeeded",
        f"{PLAN}.qa.before": "succeeded",
        "A": "succeeded",
    } | {
        "Z": "failed",
        AFTER: "skipped",
    }
    (stage.folder / "ready").touch()
    first = stage.coord("retry", "last", "--json")  # A is completed in the file by now
    assert first.code == 0, first.err
    assert checks(stage) == {BEFORE: ("red", False), AFTER: ("red", True)}
    assert missing(stage) == []

    add(stage, BREAKS)
    later = stage.sweep()
    assert (later.code, later.states["B"], later.states[AFTER]) == (3, "succeeded", "failed")
    assert missing(stage) == ["check unit of low is red (2 of 3 tests failed)"]

    add(stage, {"id": "C", "repo": "low", "action": f"test -e {stage.folder}/open"})
    assert stage.sweep().states["C"] == "failed"
    (stage.folder / "open").touch()
    retried = stage.coord("retry", "last", "--json")
    assert retried.out, retried.err
    assert retried.states == dict.fromkeys("AZBC", "succeeded") | {AFTER: "failed"}
