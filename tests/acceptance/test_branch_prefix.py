"""Story: branches of coord begin as `branch_prefix` says, in checkouts and for every command."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

PREFIX = "bots/coord/"
TODOS = [
    {"id": "LIB", "repo": "lib", "action": "echo 2 > version"},
    {"id": "APP", "repo": "app", "blocked_by": ["LIB"], "action": "echo 'lib 2' > needs"},
]
MORE = [{"id": "LIB-2", "repo": "lib", "action": "test $(cat version) = 2 && echo 3 > version"}]


@pytest.fixture
def named(testbed: Testbed) -> Testbed:
    """Checkouts in which git can have no branch coord/…, because there is one named coord."""
    testbed.settings["branch_prefix"] = PREFIX
    testbed.write(TODOS)
    for name in ("lib", "app"):
        git(testbed.folder / name, "branch", "coord")
    return testbed


def set_prefix(testbed: Testbed, prefix: str, todos: Sequence[dict] = TODOS) -> None:
    testbed.settings["branch_prefix"] = prefix
    testbed.write(todos)


def branches(testbed: Testbed, repo: str = "lib") -> list[str]:
    words = ("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
    return git(testbed.folder / repo, *words).splitlines()


def until_there_are(testbed: Testbed, *names: str) -> None:
    """Wait until a run's own branch is gone: workers remove it behind the end of a run that succeeded."""
    until(lambda: branches(testbed) == list(names))


def show(testbed: Testbed, name: str, repo: str = "lib") -> str:
    return git(testbed.folder / repo, "show", name)


def test_a_checkout_with_a_branch_coord_is_served_with_another_prefix(named: Testbed):
    named.up()
    swept = named.sweep()
    assert swept.code == 0, swept.err
    until_there_are(named, f"{PREFIX}{PLAN}", "coord", "main")
    shown = named.ok("changes", PLAN, "--json").json
    assert {one["branch"] for one in shown} == {f"{PREFIX}{PLAN}"}

    landed = named.coord("land", PLAN, "--yes")
    assert landed.code == 0, landed.err
    assert (named.folder / "lib/version").read_text() == "2\n"
    reverted = named.coord("revert", PLAN, "--yes")
    assert reverted.code == 0, reverted.err
    assert not (named.folder / "lib/version").exists()
    assert show(named, f"{PREFIX}{PLAN}:version") == "2", "the change set is open again"
    assert named.coord("land", PLAN, "--yes").code == 0
    named.ok("run", "clean", "--yes")
    assert branches(named) == ["coord", "main"]
    kept = git(named.folder / "lib", "for-each-ref", "refs/coord/branches", "refs/coord/copies")
    assert kept == ""


def test_the_branch_of_a_failed_run_is_named_and_cleaned(named: Testbed):
    todos = [*TODOS, {"id": "LAST", "repo": "lib", "blocked_by": ["APP"], "action": "false"}]
    named.write(todos)
    failed = named.sweep()
    run = failed.json["run_id"]
    assert failed.code == 3
    assert branches(named) == [f"{PREFIX}{run}", f"{PREFIX}{PLAN}", "coord", "main"]
    named.write([*TODOS, {**todos[-1], "action": "true"}])
    retried = named.coord("retry", run, "--json")
    assert retried.code == 0, retried.err
    undone = named.coord("rollback", retried.json["run_id"], "--yes")
    assert undone.code == 0, undone.err
    assert branches(named) == ["coord", "main"]
    kept = git(named.folder / "lib", "for-each-ref", "--format=%(refname)", "refs/coord/discarded")
    assert all(ref.split("/")[3] in (PLAN, run) for ref in kept.splitlines())


def test_another_prefix_finds_all_work_with_the_old_one(testbed: Testbed):
    testbed.write(TODOS)
    testbed.up()
    assert testbed.sweep().code == 0
    old = (f"coord/{PLAN}", "main")
    until_there_are(testbed, *old)
    set_prefix(testbed, PREFIX, TODOS + MORE)
    testbed.ok("down")
    testbed.up()
    swept = testbed.sweep()
    assert swept.code == 0, swept.err
    until_there_are(testbed, *old)
    assert show(testbed, f"coord/{PLAN}:version") == "3"

    testbed.redis().flushall()
    shown = testbed.coord("plan", "adopt", PLAN, "--yes", "--json")
    assert shown.code == 0, shown.err
    assert {one["branch"] for one in testbed.ok("changes", PLAN, "--json").json} == {f"coord/{PLAN}"}
    assert testbed.coord("plan", "discard", PLAN, "--yes").code == 0
    assert branches(testbed) == ["main"]
    assert testbed.sweep().code == 0
    until_there_are(testbed, f"{PREFIX}{PLAN}", "main")

    set_prefix(testbed, "coord/", TODOS + MORE)
    testbed.redis().flushall()
    assert testbed.coord("plan", "adopt", PLAN, "--yes").code == 0, "the checkout remembers the prefix"
    landed = testbed.coord("land", PLAN, "--yes")
    assert landed.code == 0, landed.err
    assert (testbed.folder / "lib/version").read_text() == "3\n"


def test_a_prefix_with_which_people_name_branches_is_refused(testbed: Testbed):
    set_prefix(testbed, "feature/")
    git(testbed.folder / "lib", "branch", "feature/login")
    before = branches(testbed)
    failed = testbed.sweep()
    assert failed.code == 3
    assert "feature/login" in failed.todo("LIB")["error"]
    assert "branch_prefix" in failed.todo("LIB")["error"]
    assert branches(testbed) == before

    git(testbed.folder / "lib", "branch", "-m", "feature/login", "bots")
    set_prefix(testbed, PREFIX)
    failed = testbed.sweep()
    assert "has a branch named bots" in failed.todo("LIB")["error"]
    set_prefix(testbed, "feature/")
    assert testbed.sweep().code == 0, "nobody has such branches now"


@pytest.mark.parametrize(
    "prefix", ["", "coord", "a..b/", "-a/", "a b/", "refs/heads/", "HEAD/", "a.lock/", "main/"]
)
def test_a_prefix_that_misleads_is_refused_when_the_file_is_read(testbed: Testbed, prefix: str):
    set_prefix(testbed, prefix)
    for words in (("validate",), ("sweep", PLAN, "--dry-run"), ("list-todos",)):
        refused = testbed.coord(*words)
        assert refused.code == 2, words
        assert "branch_prefix" in refused.err


def test_a_prefix_is_none_that_a_base_branch_has(testbed: Testbed):
    set_prefix(testbed, "release/")
    testbed.write(TODOS, repos={"lib": {"branch": "release/1.0"}})
    refused = testbed.coord("validate")
    assert refused.code == 2
    assert "release/1.0" in refused.err
    assert "lib" in refused.err
