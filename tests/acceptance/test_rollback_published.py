"""A run is rolled back whose work people can see in a pull request."""

from __future__ import annotations

from coordination.runs.change_sets.records import ChangeSet, RequestRef
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.store import RunStore
from tests.testbed import PLAN, Testbed, git

MAKE = {"id": "MAKE", "repo": "lib", "action": "echo made > made; rm README"}
MORE = {"id": "MORE", "repo": "lib", "action": "test -e made && echo more > more", "blocked_by": ["MAKE"]}
DONE = MAKE | {"status": "completed"}


def read(testbed: Testbed) -> ChangeSet:
    with testbed.redis() as redis:
        found = ChangeSets(RunStore(redis, "coord")).read(PLAN)
    assert found is not None
    return found


def publish(testbed: Testbed) -> str:
    """Record the pull request as `coord pr create` does after its push; return the pushed commit."""
    head = git(testbed.folder / "lib", "rev-parse", f"coord/{PLAN}")
    ref = RequestRef(
        number=1, url="https://x/1", name="o/r#1", head=head, by="ann", at="2026-01-01T00:00:00Z"
    )
    with testbed.redis() as redis:
        ChangeSets(RunStore(redis, "coord")).note_request(PLAN, "lib", ref, "request.created")
    return head


def test_published_work_gets_an_inverse_commit_and_later_work_is_set_back(testbed: Testbed):
    lib = testbed.repo("lib")
    testbed.write([MAKE], repos={"lib": {}})
    testbed.up()
    assert testbed.sweep().code == 0
    pushed = publish(testbed)
    git(lib, "commit", "-q", "--allow-empty", "-m", "the base moves on")
    (lib / "theirs").write_text("x\n")
    git(lib, "add", "--all")
    git(lib, "commit", "-qm", "theirs")

    first = testbed.run()["run_id"]
    testbed.ok("rollback", first, "--yes")
    inverse = git(lib, "rev-parse", f"coord/{PLAN}")
    assert git(lib, "rev-parse", f"{inverse}^") == pushed, "nothing that people have seen is rewritten"
    assert git(lib, "diff", "--name-only", inverse, "main").split() == ["theirs"], "its work is out"
    change = read(testbed).repos["lib"]
    assert (change.tip, change.todos, change.commits) == (inverse, (), None)
    assert change.request is not None

    testbed.write([MAKE, MORE], repos={"lib": {}})
    again = testbed.sweep()
    assert again.states == {"MAKE": "succeeded", "MORE": "succeeded"}, again.err
    assert git(lib, "ls-tree", "--name-only", f"coord/{PLAN}").split() == ["made", "more", "theirs"]
    assert git(lib, "merge-base", pushed, f"coord/{PLAN}") == pushed

    testbed.ok("rollback", "last", "--yes")
    assert git(lib, "rev-parse", f"coord/{PLAN}") == inverse == read(testbed).repos["lib"].tip
    assert testbed.sweep().code == 0
    publish(testbed)
    testbed.ok("rollback", "last", "--yes")
    assert set(git(lib, "ls-tree", "--name-only", f"coord/{PLAN}").split()) == {"README", "theirs"}


def test_published_work_that_is_done_again_gets_an_inverse_commit(testbed: Testbed):
    lib, branch = testbed.repo("lib"), f"coord/{PLAN}"
    testbed.write([MAKE, MORE], repos={"lib": {}})
    testbed.up()
    assert testbed.sweep().code == 0
    pushed = publish(testbed)

    testbed.write([MAKE | {"action": "false"}, MORE], repos={"lib": {}})
    assert testbed.coord("retry", "last", "--from", "MAKE").code == 3
    assert read(testbed).set_back == {"lib": pushed}
    assert read(testbed).repos["lib"].tip == git(lib, "rev-parse", "main")
    assert git(lib, "rev-parse", branch) == pushed, "nothing that people have seen goes back"

    testbed.write([MAKE, MORE], repos={"lib": {}})
    assert testbed.sweep().code == 0
    first, *_ = git(lib, "rev-list", "--reverse", f"{pushed}..{branch}").split()
    assert git(lib, "rev-parse", f"{first}^") == pushed
    assert git(lib, "ls-tree", "--name-only", first).split() == ["README"], "the inverse comes first"
    assert read(testbed).repos["lib"].tip == git(lib, "rev-parse", branch)
    assert read(testbed).set_back == {}

    testbed.write([DONE, MORE | {"action": "test -e made && echo again > more"}], repos={"lib": {}})
    assert testbed.sweep().code == 0
    pushed = publish(testbed)
    assert testbed.coord("retry", "last", "--from", "MAKE").code == 0, "its result was carried over"
    assert git(lib, "merge-base", pushed, branch) == pushed
    assert git(lib, "show", f"{branch}:more") == "again"


def test_a_rollback_takes_out_the_work_of_todos_and_leaves_the_commits_of_people(testbed: Testbed):
    lib = testbed.repo("lib")
    testbed.write([MAKE], repos={"lib": {}})
    testbed.up()
    assert testbed.sweep().code == 0
    git(lib, "checkout", "-q", f"coord/{PLAN}")
    (lib / "mine").write_text("x\n")
    git(lib, "add", "--all")
    git(lib, "commit", "-qm", "mine")
    git(lib, "checkout", "-q", "main")
    testbed.write([DONE, MORE], repos={"lib": {}})
    later = testbed.sweep()
    assert later.code == 0, later.out + later.err

    testbed.ok("rollback", "last", "--yes")
    branch = f"coord/{PLAN}"
    assert git(lib, "ls-tree", "--name-only", branch).split() == ["made", "mine"], "MORE is out, mine stays"
    assert read(testbed).repos["lib"].tip == git(lib, "rev-parse", branch)
    assert testbed.sweep().states == {"MAKE": "succeeded", "MORE": "succeeded"}
    assert git(lib, "ls-tree", "--name-only", branch).split() == ["made", "mine", "more"]
