"""Story: a run is brought back to a named checkpoint: what it did since is undone in reverse order and done
again, the rest stays.
"""

from __future__ import annotations

from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

UNDO = 'echo "undo $COORD_TODO_ID" >> "$LEDGER"'
DO = 'echo "do $COORD_TODO_ID" >> "$LEDGER"; echo $COORD_TODO_ID > $COORD_TODO_ID'


def test_a_run_is_restored_to_a_checkpoint_that_was_made_while_it_went_on(testbed: Testbed):
    gate = Gate(testbed.folder)
    testbed.write(
        [
            {"id": "A", "repo": "api", "action": DO, "compensate": UNDO},
            {
                "id": "B",
                "repo": "api",
                "action": f"{DO}; {gate.action}",
                "compensate": UNDO,
                "blocked_by": ["A"],
            },
            {"id": "D", "repo": "web", "action": DO, "compensate": UNDO, "blocked_by": ["B"]},
            {"id": "C", "repo": "web", "action": "test -e $LEDGER.mended", "blocked_by": ["D"]},
        ]
    )
    testbed.up()
    testbed.ok("sweep", PLAN, "--detach")
    gate.wait()
    made = testbed.ok("checkpoint", "create", "last", "after-a", "--json").json
    gate.open()
    assert testbed.coord("watch", "last").code == 3
    (testbed.folder / "ledger.mended").touch()
    first = testbed.run()["run_id"]

    assert made["succeeded"] == ["A"]
    assert [one["name"] for one in testbed.ok("checkpoint", "list", "last", "--json").json] == ["after-a"]
    assert testbed.ok("checkpoint", "restore", "last", "after-a", "--dry-run", "--json").json["todos"] == [
        "B",
        "D",
        "C",
    ]
    assert testbed.ok("checkpoint", "list", "last", "--format", "{name}: {succeeded}").out == "after-a: A\n"
    refused = testbed.coord("checkpoint", "restore", "last", "after-a")
    assert (refused.code, "restore last after-a --yes" in refused.err) == (2, True)
    restored = testbed.ok("checkpoint", "restore", "last", "after-a", "--yes", "--json")

    assert restored.states == dict.fromkeys("ABCD", "succeeded")
    assert restored.json["carried_from"] == first
    assert testbed.ledger == ["do A", "do B", "do D", "undo D", "undo B", "do B", "do D"]
    second = restored.json["run_id"]
    log = git(testbed.folder / "api", "log", "--format=%s", f"main..coord/{PLAN}").splitlines()
    assert log == ["B: do B", "A: do A"], "the first B is not built upon"
    assert testbed.run(first)["status"] == "cancelled"
    assert [one["name"] for one in testbed.ok("checkpoint", "list", second, "--json").json] == ["after-a"]

    testbed.ok("rollback", second, "--yes")
    assert testbed.ledger[7:] == ["undo D", "undo B", "undo A"], (
        "what was kept is undone with the run that took it up"
    )


def test_a_restore_that_is_interrupted_goes_on_where_it_is_asked_for_again(testbed: Testbed):
    gate = Gate(testbed.folder)
    testbed.write(
        [
            {"id": "A", "repo": "api", "action": DO, "compensate": UNDO},
            {
                "id": "B",
                "repo": "api",
                "action": DO,
                "compensate": f"{UNDO}; {gate.action}",
                "blocked_by": ["A"],
            },
        ]
    )
    testbed.up()
    assert testbed.coord("todo", "execute", "A").code == 0
    testbed.file.write_text(testbed.file.read_text().replace("status: completed", "status: pending"))
    assert testbed.sweep().code == 0
    run = testbed.run()["run_id"]
    testbed.ok("checkpoint", "create", run, "end")

    assert testbed.coord("checkpoint", "create", run, "end").code == 6
    assert testbed.coord("checkpoint", "create", run, "../x *\n").code == 2
    assert testbed.coord("checkpoint", "restore", run, "ende").code == 2
    testbed.redis().hset(
        f"coord:run:{run}:meta", "named.begin", '{"at_ms": 1, "by": "t", "succeeded": ["A"]}'
    )
    asked = testbed.begin("checkpoint", "restore", run, "begin", "--yes")
    gate.wait()
    asked.kill()
    asked.wait()
    assert testbed.run(run)["status"] == "rolling_back"
    again = testbed.begin("checkpoint", "restore", run, "begin", "--yes", "--json")
    gate.open()

    done = again.done()
    assert (done.code, done.states) == (0, {"A": "succeeded", "B": "succeeded"}), done.err
    assert [line for line in testbed.ledger if "undo" in line] == ["undo B"]
    until(lambda: testbed.run()["status"] == "succeeded")
    assert testbed.coord("checkpoint", "restore", run, "begin", "--yes").code == 6, "it was retried"
