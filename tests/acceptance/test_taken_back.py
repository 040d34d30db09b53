"""Succeeded todos are executed again from a todo on, and only in the planned order."""

from __future__ import annotations

from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed, git

SAY = 'echo $COORD_TODO_ID >> "$LEDGER"; '
TODOS = [
    {"id": "base", "repo": "lib", "action": SAY + "echo base > base"},
    {
        "id": "change",
        "repo": "lib",
        "action": SAY + "test -e base && echo one > version",
        "blocked_by": ["base"],
    },
    {"id": "check", "repo": "lib", "action": SAY + "grep . version", "blocked_by": ["change"]},
    {"id": "use", "repo": "app", "action": SAY + "echo used >> uses", "blocked_by": ["check"]},
    {"id": "apart", "repo": "other", "action": SAY + "echo apart > result"},
]


def edit(testbed: Testbed, old: str, new: str) -> None:
    text = testbed.file.read_text()
    assert old in text
    testbed.file.write_text(text.replace(old, new))


def test_a_succeeded_run_is_done_again_from_a_todo_on(testbed: Testbed) -> None:
    testbed.write(TODOS)
    testbed.up()
    first = testbed.sweep()
    assert first.code == 0, first.err
    edit(testbed, "echo one", "echo two")
    done = testbed.coord("retry", "--from", "change", "--json")

    assert done.code == 0, done.err
    again, kept = {"change", "check", "use"}, {"base", "apart"}
    assert f"3 todos of {first.json['run_id']} again in " in done.err
    assert "; 2 carried over; strategy: " in done.err
    assert "\n  run again although they succeeded: " in done.err
    assert sorted(testbed.ledger[5:]) == sorted(again)
    assert {t["id"] for t in done.json["todos"] if t["run"] == first.json["run_id"]} == kept
    branch = f"coord/{PLAN}"
    subjects = git(testbed.folder / "lib", "log", "--format=%s", branch).splitlines()
    assert subjects == ["change: do change", "base: do base", "first"]
    assert git(testbed.folder / "lib", "show", f"{branch}:version") == "two"
    assert git(testbed.folder / "app", "show", f"{branch}:uses") == "used"

    edit(testbed, "- check\n", "- change\n")
    changed = testbed.coord("retry", "--from", "use")
    assert (changed.code, changed.err) == (
        2,
        f"error: {PLAN} is no longer the plan of run {done.json['run_id']}: use now waits for change; "
        "use no longer waits for check\n"
        f"  start a new run: coord sweep {PLAN}; or keep the order of the run: "
        f"coord retry {done.json['run_id']} --as-it-was\n",
    )
    as_it_was = testbed.coord("retry", "--from", "use", "--as-it-was", "--json")
    assert as_it_was.code == 0, as_it_was.err
    assert testbed.ledger[8:] == ["use"]


def test_a_paused_run_goes_on_only_in_the_order_that_the_file_still_has(testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    todos = [
        {"id": "one", "repo": "a", "action": gate.action},
        {"id": "two", "repo": "b", "blocked_by": ["one"]},
        {"id": "three", "repo": "c"},
    ]
    testbed.write(todos)
    testbed.up()
    testbed.ok("sweep", PLAN, "--detach")
    gate.wait()
    testbed.ok("pause")
    gate.open()
    run = testbed.run()["run_id"]
    edit(testbed, "- one\n", "- three\n")

    refused = testbed.coord("resume")
    assert refused.code == 2
    assert "two now waits for three; two no longer waits for one" in refused.err
    assert f"coord resume {run} --as-it-was" in refused.err
    assert testbed.run()["status"] == "paused"
    testbed.ok("resume", "--as-it-was")
    assert testbed.coord("watch").code == 0
