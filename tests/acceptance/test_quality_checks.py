"""Quality checks of repositories, run by `coord qa run` and by a plan, on what a plan has made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.testbed import PLAN, Testbed, git

SUITE = "<testsuite><testcase name='a'/><testcase name='b'>{}</testcase></testsuite>"
READ = "json.load(open(os.environ['COORD_CONTEXT']))['predecessors']"
SEES = (
    f"python3 -c \"import json, os; at = [p['path'] for p in {READ} if p['repo'] == 'low'][0]; "
    "assert 'new' in open(at + '/format').read()\""
)
REPOS = {
    "low": {"qa": "echo low >> $LEDGER; touch left; git commit -q --allow-empty -m x; grep -q new format"},
    "high": {"qa": {"name": "unit", "run": f'{SEES} && echo "$SUITE" > r.xml', "report": "*.xml"}},
}
TODOS = [
    {"id": "A", "repo": "low", "action": "echo new > format"},
    {"id": "B", "repo": "high", "action": "echo b > b", "blocked_by": ["A"]},
]


def verdicts(report: Any) -> dict[str, str]:
    return {check["repo"]: check["verdict"] for check in report["checks"]}


@pytest.fixture
def checked(testbed: Testbed) -> Iterator[Testbed]:
    testbed.env = {"LEDGER": str(testbed.folder / "ledger"), "SUITE": SUITE.format("")}
    testbed.write(TODOS, repos=REPOS)
    document = yaml.safe_load(testbed.file.read_text())
    document["coordination"]["dependencies"] = [
        {"id": "D", "consumer": "high", "provider": "low", "type": "runtime"}
    ]
    testbed.file.write_text(yaml.safe_dump(document))
    testbed.up()
    yield testbed
    testbed.ok("down")


def test_checks_judge_the_base_and_the_change_set_and_are_not_repeated_for_the_same_trees(checked: Testbed):
    base = checked.coord("qa", "run", "--json")
    assert (base.code, verdicts(base.json)) == (3, {"low": "red", "high": "skipped"})
    assert "qa.base.low.qa" in base.json["checks"][1]["why"]

    assert checked.sweep().code == 0
    tip = git(checked.folder / "low", "rev-parse", f"coord/{PLAN}")
    first = checked.coord("qa", "run", "--plan", PLAN, "--json", "--junit", "out.xml")
    assert (first.code, verdicts(first.json)) == (0, {"low": "green", "high": "green"})
    low, high = first.json["checks"]
    assert low["commit"] == tip
    assert (high["total"], high["passed"], high["needs"]) == (2, 2, {"low": tip})
    assert (checked.folder / "out.xml").read_text().count("<testsuite ") == 2
    ran = len(checked.ledger)

    again = checked.ok("qa", "run", "--plan", PLAN, "--json").json
    checks = checked.ok("list-runs", "--json").json[0]["run_id"]
    assert [bool(check["cached"]) for check in again["checks"]] == [True, True]
    assert checked.ledger[ran:] == []
    assert verdicts(checked.ok("qa", "show", "last", "--json").json) == verdicts(first.json)

    refused = checked.coord("rollback", checks, "--yes")
    assert refused.code == 6
    assert git(checked.folder / "low", "rev-parse", f"coord/{PLAN}") == tip
    assert checked.coord("qa", "run", "nobody").code != 0
