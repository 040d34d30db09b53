"""A run is rolled back whose work people can see in a pull request."""

from __future__ import annotations

from coordination.runs.change_sets.records import ChangeSet, RequestRef
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.store import RunStore
from tests.stage import PLAN, Stage, git

MAKE = {"id": "MAKE", "repo": "lib", "action": "echo made > made; rm README"}
MORE = {"id": "MORE", "repo": "lib", "action": "test -e made && echo more > more", "blocked_by": ["MAKE"]}
DONE = MAKE | {"status": "completed"}


def read(stage: Stage) -> ChangeSet:
    with stage.redis() as redis:
        found = ChangeSets(RunStore(redis, "coord")).read(PLAN)
    assert found is not None
    return found


def publish(stage: Stage) -> str:
    """Record the pull request as `coord pr create` does after its push; return the pushed commit."""
    head = git(stage.folder / "lib", "rev-parse", f"coord/{PLAN}")
    ref = RequestRef(
        number=1, url="https://x/1", name="o/r#1", head=head, by="ann", at="2026-01-01T00:00:00Z"
    )
    with stage.redis() as redis:
        ChangeSets(RunStore(redis, "coord")).note_request(PLAN, "lib", ref, "request.created")
    return head


def test_published_work_gets_an_inverse_commit_and_later_work_is_set_back(stage: Stage):
    lib = stage.repo("lib")
    stage.write([MAKE], repos={"lib": {}})
    stage.up()
    assert stage.sweep().code == 0
    pushed = publish(stage)
    git(lib, "commit", "-q", "--allow-empty", "-m", "the base moves on")
    (lib / "theirs").write_text("x\n")
    git(lib, "add", "--all")
    git(lib, "commit", "-qm", "theirs")

    first = stage.run()["run_id"]
    stage.ok("rollback", first, "--yes")
    inverse = git(lib, "rev-parse", f"coord/{PLAN}")
    assert git(lib, "rev-parse", f"{inverse}^") == pushed, "nothing that people have seen is rewritten"
    assert git(lib, "diff", "--name-only", inverse, "main").split() == ["theirs"], "its work is out"
    change = read(stage).repos["lib"]
    assert (change.tip, change.todos, change.commits) == (inverse, (), None)
    assert change.request is not None

    stage.write([MAKE, MORE], repos={"lib": {}})
    again = stage.sweep()
    assert again.states == {"MAKE": "succeeded", "MORE": "succeeded"}, again.err
    assert git(lib, "ls-tree", "--name-only", f"coord/{PLAN}").split() == ["made", "more", "theirs"]
    assert git(lib, "merge-base", pushed, f"coord/{PLAN}") == pushed

    stage.ok("rollback", "last", "--yes")
    assert git(lib, "rev-parse", f"coord/{PLAN}") == inverse == read(stage).repos["lib"].tip
    assert stage.sweep().code == 0
    publish(stage)
    stage.ok("rollback", "last", "--yes")
    assert set(git(lib, "ls-tree", "--name-only", f"coord/{PLAN}").split()) == {"README", "theirs"}


def test_published_work_that_is_done_again_gets_an_inverse_commit(stage: Stage):
    lib, branch = stage.repo("lib"), f"coord/{PLAN}"
    stage.write([MAKE, MORE], repos={"lib": {}})
    stage.up()
    assert stage.sweep().code == 0
    pushed = publish(stage)

    stage.write([MAKE | {"action": "false"}, MORE], repos={"lib": {}})
    assert stage.coord("retry", "last", "--from", "MAKE").code == 3
    assert read(stage).set_back == {"lib": pushed}
    assert read(stage).repos["lib"].tip == git(lib, "rev-parse", "main")
    assert git(lib, "rev-parse", branch) == pushed, "nothing that people have seen goes back"

    stage.write([MAKE, MORE], repos={"lib": {}})
    assert stage.sweep().code == 0
    first, *_ = git(lib, "rev-list", "--reverse", f"{pushed}..{branch}").split()
    assert git(lib, "rev-parse", f"{first}^") == pushed
    assert git(lib, "ls-tree", "--name-only", first).split() == ["README"], "the inverse comes first"
    assert read(stage).repos["lib"].tip == git(lib, "rev-parse", branch)
    assert read(stage).set_back == {}

    stage.write([DONE, MORE | {"action": "test -e made && echo again > more"}], repos={"lib": {}})
    assert stage.sweep().code == 0
    pushed = publish(stage)
    assert stage.coord("retry", "last", "--from", "MAKE").code == 0, "its result was carried over"
    assert git(lib, "merge-base", pushed, branch) == pushed
    assert git(lib, "show", f"{branch}:more") == "again"


def test_a_rollback_takes_out_the_work_of_todos_and_leaves_the_commits_of_people(stage: Stage):
    lib = stage.repo("lib")
    stage.write([MAKE], repos={"lib": {}})
    stage.up()
    assert stage.sweep().code == 0
    git(lib, "checkout", "-q", f"coord/{PLAN}")
    (lib / "mine").write_text("x\n")
    git(lib, "add", "--all")
    git(lib, "commit", "-qm", "mine")
    git(lib, "checkout", "-q", "main")
    stage.write([DONE, MORE], repos={"lib": {}})
    later = stage.sweep()
    assert later.code == 0, later.out + later.err

    stage.ok("rollback", "last", "--yes")
    branch = f"coord/{PLAN}"
    assert git(lib, "ls-tree", "--name-only", branch).split() == ["made", "mine"], "MORE is out, mine stays"
    assert read(stage).repos["lib"].tip == git(lib, "rev-parse", branch)
    assert stage.sweep().states == {"MAKE": "succeeded", "MORE": "succeeded"}
    assert git(lib, "ls-tree", "--name-only", branch).split() == ["made", "mine", "more"]
