"""Stories: what a todo leaves beside its commit neither makes its check green, nor passes a gate."""

from __future__ import annotations

import pytest

from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

PREPARE = """\
mkdir -p node_modules && printf '#!/bin/sh\\ngrep -q good code.txt\\n' > node_modules/jest
printf '#!/bin/sh\\necho deployed >> $LEDGER\\n' > node_modules/deploy; chmod +x node_modules/*
"""
FAKE = "for each in jest deploy; do printf '#!/bin/sh\\necho fake >> $LEDGER\\n' > node_modules/$each; done"


@pytest.fixture
def bed(testbed: Testbed) -> Testbed:
    repo = testbed.repo("api")
    for name, text in {".gitignore": "node_modules/\n", "code.txt": "good\n"}.items():
        (repo / name).write_text(text)
    git(repo, "add", "--all")
    git(repo, "commit", "-qm", "second")
    testbed.env = {"LEDGER": str(testbed.folder / "ledger")}
    return testbed


def test_a_landing_uses_no_result_from_a_folder_in_which_a_todo_worked(bed: Testbed):
    todo = {"id": "A", "repo": "api", "action": f"{FAKE}; echo bad > code.txt"}
    landing = {"via": "local", "qa": True}
    bed.write(
        [todo],
        repos={"api": {"prepare": PREPARE, "qa": "node_modules/jest"}},
        plan={"qa": "after", "land": landing},
    )
    bed.up()
    swept = bed.coord("sweep", PLAN, "--json")
    landed = bed.coord("land", PLAN, "--yes")

    assert swept.states == {"A": "succeeded", f"{PLAN}.qa.api.qa": "failed"}
    assert landed.code == 3, landed.err
    assert git(bed.folder / "api", "show", "main:code.txt") == "good"
    assert bed.ledger == []


def test_what_is_approved_is_the_commit(bed: Testbed):
    bed.write(
        [
            {"id": "A", "repo": "api", "action": f"{FAKE}; echo new > code.txt"},
            {"id": "D", "repo": "api", "gate": True, "blocked_by": ["A"], "action": "node_modules/deploy"},
            {"id": "THEN", "repo": "api", "blocked_by": ["D"], "action": "node_modules/deploy; exit 1"},
        ],
        repos={"api": {"prepare": PREPARE}},
    )
    bed.up()
    sweep = bed.begin("sweep", PLAN)
    sweep.says("D (do D) waits for an approval")
    bed.ok("approve", "D")
    assert sweep.done(60).code == 3
    run = bed.run()["run_id"]
    retry = bed.coord("retry", run)

    assert retry.code == 3
    assert bed.ledger == ["deployed"] * 3, "also in a retry, to which the approval is carried over"


def test_the_checkout_of_a_check_goes_with_its_run(bed: Testbed):
    bed.write([], repos={"api": {"prepare": PREPARE, "qa": "node_modules/jest"}})
    bed.up()
    assert bed.ok("qa", "run").code == 0

    until(lambda: not [*(bed.folder / ".coord" / "checks").glob("*")])
    assert len(git(bed.folder / "api", "worktree", "list").splitlines()) == 1


READ = """P=$(python3 -c 'import json, os
for p in json.load(open(os.environ["COORD_CONTEXT"]))["predecessors"]:
    if p["repo"] == "lib": print(p["path"])'); """


@pytest.mark.parametrize("judge", ["check", "read_only", "gate"])
def test_what_a_todo_writes_into_the_files_of_a_predecessor_is_not_there(testbed: Testbed, judge: str):
    testbed.repo("lib", **{"code.txt": "bad\n"})
    command = f"{READ} grep -q bad $P/code.txt && test ! -e $P/left"
    todos: list[dict[str, object]] = [
        {"id": "A", "repo": "lib", "action": "echo new > new"},
        {"id": "B", "repo": "app", "blocked_by": ["A"], "action": f"{READ} echo x > $P/code.txt; > $P/left"},
    ]
    last = {"id": "C", "repo": "app", "blocked_by": ["A", "B"]}
    if judge == "read_only":
        todos.append(last | {"action": {"type": "shell", "run": command, "read_only": True}})
    elif judge == "gate":
        todos.append(last | {"gate": True, "action": command})
    check = {"qa": {"run": command, "needs": ["lib"]}} if judge == "check" else {}
    testbed.write(todos, repos={"lib": {}, "app": check}, plan={"qa": "after"} if check else {})
    testbed.up()
    sweep = testbed.begin("sweep", PLAN)
    if judge == "gate":
        sweep.says("C (do C) waits for an approval")
        testbed.ok("approve", "C")

    assert sweep.done(60).code == 0
