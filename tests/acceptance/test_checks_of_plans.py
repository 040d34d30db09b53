"""Quality checks before and behind the todos of a plan, by real runs: blocked, allowed, known, retried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from coordination import Coord
from coordination.runs.change_sets.records import CheckResult, CheckVerdict
from tests.testbed import PLAN, Done, Testbed

TESTED = (
    "{ echo '<testsuite>'; while read name ends; do echo \"<testcase name='$name'>\"; "
    "test $ends = ok || echo '<failure/>'; echo '</testcase>'; done < tests; echo '</testsuite>'; } > r.xml"
)
REPOS = {"low": {"qa": {"name": "unit", "run": TESTED, "report": "r.xml"}}}
BEFORE, AFTER = f"{PLAN}.qa.before.low.unit", f"{PLAN}.qa.low.unit"
ADDS = {"id": "A", "repo": "low", "action": "echo 'new ok' >> tests"}
BREAKS = {"id": "B", "repo": "low", "action": "sed -i s/good.ok/good.bad/ tests", "blocked_by": ["A"]}


@pytest.fixture
def testbed_with_debt(testbed: Testbed) -> Iterator[Testbed]:
    testbed.repo("low", tests="old bad\ngood ok\n")
    testbed.write([ADDS], repos=REPOS, plan={"status": "active", "qa": "both"})
    testbed.up()
    yield testbed
    testbed.ok("down")


def edit(testbed: Testbed, **plan: Any) -> None:
    document = yaml.safe_load(testbed.file.read_text())
    document["coordination"]["plans"][0].update(plan)
    testbed.file.write_text(yaml.safe_dump(document, sort_keys=False))


def add(testbed: Testbed, *todos: dict[str, Any]) -> None:
    document = yaml.safe_load(testbed.file.read_text())
    document["coordination"]["todos"] += [{"task": "t", "plan": PLAN, **todo} for todo in todos]
    testbed.file.write_text(yaml.safe_dump(document, sort_keys=False))


def checks(testbed: Testbed) -> dict[str, tuple[str, bool]]:
    report = testbed.coord("qa", "show", "last", "--json").json
    return {check["todo"]: (check["verdict"], check["known"]) for check in report["checks"]}


def missing(testbed: Testbed) -> list[str]:
    done: Done = testbed.coord("plan", "validate", PLAN, "--json")
    return list(done.json["missing"])


def test_what_is_red_before_blocks_is_allowed_and_is_no_excuse_for_more(testbed_with_debt: Testbed):
    testbed = testbed_with_debt
    blocked = testbed.sweep()
    assert (blocked.code, blocked.states["A"]) == (3, "skipped")
    assert checks(testbed)[BEFORE] == ("red", False)

    edit(testbed, qa="after")
    assert testbed.sweep().code == 3
    assert checks(testbed) == {AFTER: ("red", False)}
    assert missing(testbed) == ["check unit of low is red (1 of 3 tests failed)"]
    refused = testbed.coord("plan", "update", PLAN, "--status", "completed")
    assert (refused.code, "check unit of low is red" in refused.err) == (3, True)


def test_still_possible_redis_shows_a_red_check_as_green_to_a_person(testbed_with_debt: Testbed):
    testbed = testbed_with_debt
    edit(testbed, qa="after")
    assert testbed.sweep().code == 3
    with Coord(testbed.file) as coord, coord.reached() as connection:
        keys = connection.keys.run(coord.runs.get("last").id)
        connection.redis.hset(keys.state, AFTER, "succeeded")
        connection.redis.hset(keys.output, AFTER, CheckResult(verdict=CheckVerdict.GREEN).written())

    assert checks(testbed) == {AFTER: ("green", False)}
    assert missing(testbed) == []


def test_tests_that_failed_before_may_fail_and_no_others(testbed_with_debt: Testbed):
    testbed = testbed_with_debt
    edit(testbed, qa={"when": "both", "allow_red": True})

    add(testbed, {"id": "Z", "repo": "low", "action": f"test -e {testbed.folder}/ready", "blocked_by": ["A"]})
    assert testbed.sweep().states == {
        BEFORE: "succeeded",
        f"{PLAN}.qa.before": "succeeded",
        "A": "succeeded",
    } | {
        "Z": "failed",
        AFTER: "skipped",
    }
    (testbed.folder / "ready").touch()
    first = testbed.coord("retry", "last", "--json")  # A is completed in the file by now
    assert first.code == 0, first.err
    assert checks(testbed) == {BEFORE: ("red", False), AFTER: ("red", True)}
    assert missing(testbed) == []

    add(testbed, BREAKS)
    later = testbed.sweep()
    assert (later.code, later.states["B"], later.states[AFTER]) == (3, "succeeded", "failed")
    assert missing(testbed) == ["check unit of low is red (2 of 3 tests failed)"]

    add(testbed, {"id": "C", "repo": "low", "action": f"test -e {testbed.folder}/open"})
    assert testbed.sweep().states["C"] == "failed"
    (testbed.folder / "open").touch()
    retried = testbed.coord("retry", "last", "--json")
    assert retried.out, retried.err
    assert retried.states == dict.fromkeys("AZBC", "succeeded") | {AFTER: "failed"}


@pytest.mark.parametrize("plan", [PLAN, "OTHER"])
@pytest.mark.parametrize("name", [f"{PLAN}.qa.low.unit", "A.accept.1"])
def test_a_todo_with_the_name_of_a_check_does_not_replace_it(testbed: Testbed, plan: str, name: str):
    judged = {**ADDS, "acceptance_criteria": [{"text": "it works", "check": "false"}]}
    testbed.write(
        [judged, {"id": name, "repo": "low", "action": "true", "plan": plan}],
        repos={"low": {"qa": {"name": "unit", "run": "false"}}},
        plan={"status": "active", "qa": "after"},
        plans=[{"id": "OTHER", "title": "o", "status": "active"}],
    )
    refused = testbed.coord("sweep", PLAN, "--dry-run")

    assert refused.code == 2, refused
    assert name in refused.err
