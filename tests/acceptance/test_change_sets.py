"""Story: a person looks at a change set, adopts a commit, rebuilds what Redis has lost."""

from __future__ import annotations

from tests.testbed import PLAN, Testbed, git

BRANCH = f"coord/{PLAN}"


def test_a_change_set_is_shown_adopted_lost_rebuilt_and_discarded(testbed: Testbed):
    todos = [{"id": "A", "repo": "a", "action": "echo 1 > made"}, {"id": "B", "repo": "b", "action": "true"}]
    testbed.write(todos)
    testbed.up()
    assert testbed.sweep().code == 0
    a = testbed.folder / "a"
    tip = git(a, "rev-parse", BRANCH)

    (change,) = testbed.coord("changes", PLAN, "--json").json
    assert (change["repo"], change["branch"], change["tip"]) == ("a", BRANCH, tip)
    assert (change["commits"], change["files"], change["added"], change["todos"]) == (1, 1, 1, ["A"])
    assert change["wait_reason"] == "order"
    assert testbed.ok("diff", PLAN, "--json").json
    assert "+1" in testbed.ok("diff", PLAN).out

    git(a, "checkout", "-q", "-b", "mine", tip)
    (a / "made").write_text("better\n")
    git(a, "commit", "-qam", "mine")
    mine = git(a, "rev-parse", "HEAD")
    git(a, "checkout", "-q", "main")
    testbed.ok("adopt", PLAN, "a", "mine", "--yes")
    assert testbed.coord("changes", PLAN, "--json").json[0]["tip"] == mine
    assert git(a, "rev-parse", BRANCH) == mine

    with testbed.redis() as client:
        client.delete(*client.keys("coord:changes:*"))
    testbed.ok("adopt", PLAN, "--yes")
    assert testbed.coord("changes", PLAN, "--json").json[0]["tip"] == mine

    fresh = testbed.coord("sweep", PLAN, "--fresh", "--yes", "--json")
    assert fresh.code == 0, fresh.err
    assert fresh.states == {"A": "succeeded"}, "B committed nothing: it counts as the file says"
    assert git(a, "show", f"{BRANCH}:made") == "1"
    kept = git(a, "for-each-ref", "--format=%(objectname)", "refs/coord/discarded").split()
    assert mine in kept

    testbed.ok("land", PLAN, "--yes")
    assert git(a, "show", "main:made") == "1"
