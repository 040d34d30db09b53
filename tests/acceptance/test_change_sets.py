"""Story: a person looks at a change set, adopts a commit, rebuilds what Redis has lost."""

from __future__ import annotations

from tests.stage import PLAN, Stage, git

BRANCH = f"coord/{PLAN}"


def test_a_change_set_is_shown_adopted_lost_rebuilt_and_discarded(stage: Stage):
    todos = [{"id": "A", "repo": "a", "action": "echo 1 > made"}, {"id": "B", "repo": "b", "action": "true"}]
    stage.write(todos)
    stage.up()
    assert stage.sweep().code == 0
    a = stage.folder / "a"
    tip = git(a, "rev-parse", BRANCH)

    (change,) = stage.coord("changes", PLAN, "--json").json
    assert (change["repo"], change["branch"], change["tip"]) == ("a", BRANCH, tip)
    assert (change["commits"], change["files"], change["added"], change["todos"]) == (1, 1, 1, ["A"])
    assert change["wait_reason"] == "order"
    assert stage.ok("diff", PLAN, "--json").json
    assert "+1" in stage.ok("diff", PLAN).out

    git(a, "checkout", "-q", "-b", "mine", tip)
    (a / "made").write_text("better\n")
    git(a, "commit", "-qam", "mine")
    mine = git(a, "rev-parse", "HEAD")
    git(a, "checkout", "-q", "main")
    stage.ok("adopt", PLAN, "a", "mine", "--yes")
    assert stage.coord("changes", PLAN, "--json").json[0]["tip"] == mine
    assert git(a, "rev-parse", BRANCH) == mine

    with stage.redis() as client:
        client.delete(*client.keys("coord:changes:*"))
    stage.ok("adopt", PLAN, "--yes")
    assert stage.coord("changes", PLAN, "--json").json[0]["tip"] == mine

    fresh = stage.coord("sweep", PLAN, "--fresh", "--yes", "--json")
    assert fresh.code == 0, fresh.err
    assert fresh.states == {"A": "succeeded"}, "B committed nothing: it counts as the file says"
    assert git(a, "show", f"{BRANCH}:made") == "1"
    kept = git(a, "for-each-ref", "--format=%(objectname)", "refs/coord/discarded").split()
    assert mine in kept

    stage.ok("land", PLAN, "--yes")
    assert git(a, "show", "main:made") == "1"
