"""Story: a colleague has the file and fresh clones; the work of the completed todos is on another machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.testbed import PLAN, Testbed, git

ONE = {"id": "ONE", "repo": "lib", "action": "echo 1 > one"}
TWO = {"id": "TWO", "repo": "lib", "action": "echo 2 > two", "blocked_by": ["ONE"]}
BRANCH = f"coord/{PLAN}"


@pytest.fixture
def colleague(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """The plan is swept in `testbed`, whose file the colleague has; the clone is of the remote."""
    lib = testbed.repo("lib")
    folder = tmp_path_factory.mktemp("colleague")
    remote = testbed.folder / "remote.git"
    git(lib, "clone", "-q", "--bare", str(lib), str(remote))
    testbed.write([ONE, TWO], repos={"lib": {"url": str(remote)}})
    done = testbed.sweep()
    assert done.code == 0, done.err
    shutil.copy(testbed.file, folder)
    git(folder, "clone", "-q", str(remote), "lib")
    other = Testbed(folder, env=testbed.env)
    yield other
    other.end()


def push(testbed: Testbed, *refs: str) -> None:
    git(testbed.folder / "lib", "push", "-q", str(testbed.folder / "remote.git"), *refs)


def test_nothing_here_has_the_work_and_a_fresh_sweep_does_it_again(colleague: Testbed):
    for words in (["changes", PLAN], ["land", PLAN, "--yes"], ["plan", "diff", PLAN], ["pr", "list", PLAN]):
        refused = colleague.coord(*words)
        assert refused.code == 2
        said = ("ONE", "TWO", f"sweep {PLAN} --fresh", "coord plan adopt")
        assert [words for words in said if words not in refused.err] == []
    assert not (colleague.state / "worker.log").exists(), "only looked"
    for words in ([], ["--dry-run"]):
        nothing = colleague.ok("sweep", PLAN, *words)
        assert [one for one in ("nothing to do", "ONE", f"{PLAN} --fresh") if one not in nothing.err] == []
    would = colleague.ok("sweep", PLAN, "--fresh", "--dry-run", "--json")
    assert [step["id"] for step in would.json["steps"]] == ["ONE", "TWO"]

    again = colleague.ok("sweep", PLAN, "--fresh", "--yes", "--json")
    assert again.states == {"ONE": "succeeded", "TWO": "succeeded"}
    nothing = colleague.ok("sweep", PLAN)
    assert f"coord land {PLAN}" in nothing.err, "completed is not landed"
    (change,) = colleague.ok("changes", PLAN, "--json").json
    assert change["host"] in nothing.err
    colleague.ok("land", PLAN, "--yes")
    assert "land" not in colleague.ok("sweep", PLAN).err


def test_the_pushed_branch_is_named_and_adopted(testbed: Testbed, colleague: Testbed):
    push(testbed, BRANCH)
    git(colleague.folder / "lib", "fetch", "-q")
    assert f"origin/{BRANCH}" in colleague.coord("changes", PLAN).err
    tip = git(testbed.folder / "lib", "rev-parse", BRANCH)
    colleague.ok("plan", "adopt", PLAN, "--yes")
    (change,) = colleague.ok("changes", PLAN, "--json").json
    assert (change["tip"], sorted(change["todos"])) == (tip, ["ONE", "TWO"])
    assert git(colleague.folder / "lib", "rev-parse", BRANCH) == tip


@pytest.mark.parametrize("how", ["merge", "squash"])
def test_landed_work_is_not_absent(testbed: Testbed, colleague: Testbed, how: str):
    testbed.ok("land", PLAN, "--yes", "--method", how)
    git(colleague.folder / "lib", "pull", "-q")
    for words in (["sweep", PLAN], ["sweep", PLAN, "--fresh", "--yes"]):
        nothing = colleague.ok(*words)
        assert "nothing to do" in nothing.err
        assert "ONE" not in nothing.err
    assert "ONE" not in colleague.coord("changes", PLAN).err


def test_a_todo_that_a_person_completed_is_not_done_again(testbed: Testbed):
    testbed.write([ONE])
    testbed.ok("complete-todo", "ONE")
    assert "fresh" not in testbed.ok("sweep", PLAN).err
