"""Story: a landing compares each completed todo of its plan with the work that lands and the base branch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordination import Coord
from coordination.runs.submission.refusals import NotLanded
from tests.agent import agent, over_stdio
from tests.testbed import FORKS, PLAN, Testbed, git, plain

ONE = {"id": "ONE", "repo": "lib", "action": "echo 1 > one"}
TWO = {"id": "TWO", "repo": "lib", "action": "echo 2 > two"}
DONE = {"status": "completed"}


def land(testbed: Testbed, *words: str) -> int:
    return testbed.coord("land", PLAN, "--yes", *words).code


def forget(testbed: Testbed, *, file: bool = False) -> None:
    """Lose what Redis knows; with `file`, also the history of the file."""
    testbed.ok("down")
    with testbed.redis() as client:
        client.flushall()
    if file:
        for path in testbed.state.glob("*journal*"):
            path.unlink()
        for path in testbed.state.rglob("history.db*"):
            path.unlink()
    testbed.up()


def on_main(testbed: Testbed, repo: str = "lib") -> list[str]:
    return sorted(git(testbed.folder / repo, "ls-tree", "--name-only", "main").split())


def swept(testbed: Testbed, *todos: dict, **how: object) -> None:
    testbed.write(list(todos), **how)
    testbed.up()
    done = testbed.sweep()
    assert done.code == 0, done.err


def lose_the_first(testbed: Testbed, ref: str) -> str:
    """Make a change set with the work of TWO only. That of ONE, which is completed, is at `ref` alone."""
    swept(testbed, ONE)
    lib = testbed.folder / "lib"
    commit = git(lib, "rev-parse", f"coord/{PLAN}")
    forget(testbed)
    git(lib, "update-ref", "-d", f"refs/heads/coord/{PLAN}")
    git(lib, "update-ref", "-d", f"refs/coord/copies/{PLAN}")
    for branch in git(lib, "for-each-ref", "--format=%(refname)", "refs/heads/coord/").split():
        git(lib, "update-ref", "-d", branch)
    if ref:
        git(lib, "update-ref", ref, commit)
    swept(testbed, {**ONE, **DONE}, TWO)
    return commit


def test_the_commit_of_a_completed_todo_that_only_another_ref_has_refuses_the_landing(testbed: Testbed):
    ref = f"refs/coord/discarded/{PLAN}/1"
    commit = lose_the_first(testbed, ref)
    refused = testbed.coord("land", PLAN, "--yes")
    assert refused.code == 6
    assert [
        word for word in ("ONE", "lib", commit[:12], ref, "coord plan adopt") if word not in refused.err
    ] == []
    assert on_main(testbed) == ["README"]
    with Coord(testbed.file) as coord, pytest.raises(NotLanded) as raised:
        coord.landings.land(PLAN)
    assert [(one.todo, one.repo, one.commit, one.ref) for one in raised.value.findings] == [
        ("ONE", "lib", commit, ref)
    ]

    lib = testbed.folder / "lib"
    git(lib, "switch", "-q", f"coord/{PLAN}")
    git(lib, "merge", "-q", "--no-edit", commit)
    git(lib, "switch", "-q", "-")
    testbed.ok("plan", "adopt", PLAN, "lib", f"coord/{PLAN}", "--yes")
    assert land(testbed) == 0
    assert on_main(testbed) == ["README", "one", "two"]


def test_a_completed_todo_of_which_nothing_is_known_needs_the_word_of_a_person(testbed: Testbed):
    lose_the_first(testbed, "")
    refused = testbed.coord("land", PLAN, "--yes", "--method", "squash")
    assert refused.code == 6
    assert f"coord land {PLAN} --method squash --accept ONE" in refused.err
    assert land(testbed, "--accept", "TWO", "--accept", "THREE") == 2

    assert land(testbed, "--accept", "ONE") == 0
    assert on_main(testbed) == ["README", "two"]
    assert is_recorded(testbed, "--accept=ONE")
    testbed.write(
        [{**ONE, **DONE}, {**TWO, **DONE}, {"id": "THREE", "repo": "lib", "action": "echo 3 > three"}]
    )
    assert testbed.sweep().code == 0
    assert land(testbed) == 0, "it was accepted once and for all"


def is_recorded(testbed: Testbed, option: str) -> bool:
    """Return whether the newest run, its event, the history and the landed commit name the option."""
    run = testbed.run()
    (event,) = testbed.ok("event", "list", "--kind", "command.land", "--json").json
    kept = testbed.ok("history", "search", "--kind", "command.land", "--json").json
    trailer = git(
        testbed.folder / "lib", "log", "-1", "--format=%(trailers:key=Coord-Override,valueonly)", "main"
    ).strip()
    found = (run["overrides"], event["data"]["overrides"], kept[0]["data"]["overrides"], trailer)
    return found == ([option], option, option, f"{option} by {run['actor']}")


def test_an_agent_that_lands_with_an_accepted_todo_leaves_the_same_trace(testbed: Testbed):
    lose_the_first(testbed, "")
    words = [str(FORKS.programs / "coord"), "mcp", "--tools", "all", "--ecosystem", str(testbed.file)]
    with agent(over_stdio(words, plain(), "/")) as ai:
        assert "ONE" in ai.refused("coord_plan_land", plan=PLAN)
        assert ai.call("coord_plan_preview_landing", plan=PLAN, accept=["ONE"])["overrides"] == [
            "--accept=ONE"
        ]
        run = ai.call("coord_plan_land", plan=PLAN, accept=["ONE"])["run_id"]
        assert ai.call("coord_run_show", run=run, wait_s=60)["status"] == "succeeded"
    assert is_recorded(testbed, "--accept=ONE")


def test_a_lost_todo_is_named_where_nothing_else_is_left_to_land(testbed: Testbed):
    swept(testbed, TWO)
    assert land(testbed) == 0
    testbed.write([{**ONE, **DONE}, {**TWO, **DONE}])
    assert land(testbed) == 6
    assert land(testbed, "--accept", "ONE") == 0
    event = testbed.ok("event", "list", "--kind", "command.land", "--json").json[-1]
    assert (event["subject"], event["data"]["overrides"]) == (PLAN, "--accept=ONE")
    assert land(testbed) == 0


def test_a_lost_todo_of_a_later_wave_or_another_plan_of_the_waves_lets_no_wave_begin(testbed: Testbed):
    other = {"id": "OTHER", "repo": "app", "action": "echo 1 > other"}
    far = {"id": "FAR", "repo": "app", "plan": "PLAN-002", "action": "echo 2 > far"}
    waves = {"land": {"waves": [["lib"], ["app"]]}}
    plans = [{"id": "PLAN-002", "title": "another"}]
    testbed.write([ONE, other, far], plan=waves, plans=plans)
    testbed.up()
    assert testbed.sweep().code == 0
    testbed.ok("sweep", "PLAN-002")
    lost = {"id": "LOST", "repo": "app", "action": "echo 3 > lost", **DONE}
    testbed.write([ONE, other, far, lost], plan=waves, plans=plans)
    assert land(testbed, "--wave", "1") == 6
    assert land(testbed, "--repo", "lib") == 0, "the work of these repositories is complete"
    assert on_main(testbed) == ["README", "one"]

    testbed.write([ONE, other, far, {**lost, "plan": "PLAN-002"}], plans=plans)
    with testbed.edited() as file:
        file["coordination"]["waves"] = [{"id": "W", "title": "both", "order": [PLAN, "PLAN-002"]}]
    refused = testbed.coord("land", "W", "--yes")
    assert (refused.code, "coord land W --accept LOST" in refused.err) == (6, True)
    assert on_main(testbed, "app") == ["README"]
    assert testbed.coord("land", "W", "--yes", "--accept", "LOST").code == 0
    assert on_main(testbed, "app") == ["README", "far", "other"]


def test_todos_that_have_no_commit_are_not_compared(testbed: Testbed):
    """By hand, in place, read-only, a check, without a change. The second landing has no record of them: the
    change set began anew.
    """
    none = [
        {"id": "HAND", "repo": "lib"},
        {"id": "PERSON", "repo": "lib", "action": {"type": "manual"}, **DONE},
        {"id": "PLACE", "repo": "lib", "workspace": "in-place", **DONE},
        {"id": "READ", "repo": "lib", "action": {"type": "shell", "run": "true", "read_only": True}, **DONE},
        {"id": "CHECK", "repo": "lib", "action": {"type": "qa", "check": "tests"}, **DONE},
        {"id": "EMPTY", "repo": "lib"},
    ]
    repos = {"lib": {"qa": [{"name": "tests", "run": "true"}]}}
    testbed.write([*none, ONE], repos=repos)
    testbed.up()
    testbed.ok("complete-todo", "HAND")
    assert testbed.sweep().code == 0
    assert land(testbed, "--no-qa") == 0
    add(testbed, TWO)
    assert testbed.sweep().code == 0
    assert land(testbed, "--no-qa") == 0
    assert on_main(testbed) == ["README", "one", "two"]


def by_coord(testbed: Testbed) -> None:
    assert land(testbed, "--method", "squash") == 0
    testbed.ok("run", "clean", "--yes")


def by_people(testbed: Testbed) -> None:
    lib = testbed.folder / "lib"
    git(lib, "merge", "-q", "--squash", f"coord/{PLAN}")
    git(lib, "commit", "-qm", "squashed")
    (lib / "one").write_text("gone on\n")
    git(lib, "commit", "-qam", "gone on")
    git(lib, "branch", "-m", f"coord/{PLAN}", "kept")


@pytest.mark.parametrize("landed", [by_coord, by_people])
def test_what_has_landed_in_another_form_lands_again_though_its_records_are_lost(
    testbed: Testbed, landed: Callable[[Testbed], None]
):
    swept(testbed, ONE, TWO)
    landed(testbed)
    forget(testbed, file=True)
    swept(
        testbed, {**ONE, **DONE}, {**TWO, **DONE}, {"id": "THREE", "repo": "lib", "action": "echo 3 > three"}
    )
    assert land(testbed) == 0
    assert "three" in on_main(testbed)


LOSING = (
    ("run", "clean", "--yes"),
    ("run", "clean", "--unmerged", "--yes"),
    ("plan", "discard", PLAN, "--yes"),
    ("sweep", PLAN, "--fresh", "--yes"),
    ("run", "clean", "--yes", "--older-than", "0s"),
)


@pytest.mark.parametrize("lost", ["records", "everything"])
@pytest.mark.parametrize("ended", ["succeeded", "failed"])
def test_no_command_removes_a_commit_of_which_redis_has_no_record(testbed: Testbed, ended: str, lost: str):
    fails = {"id": "BAD", "repo": "lib", "action": "false", "blocked_by": ["ONE"]}
    testbed.write([ONE, TWO, *([fails] if ended == "failed" else [])])
    testbed.up()
    testbed.sweep()
    lib = testbed.folder / "lib"
    before = set(git(lib, "rev-list", "--all").split())
    assert len(before) == 3
    if lost == "everything":
        forget(testbed, file=True)
    else:
        with testbed.redis() as client:
            client.delete(*client.keys("coord:change*"))
    for words in LOSING:
        done = testbed.coord(*words)
        assert done.code in (0, 2, 3, 6), done
        assert before <= set(git(lib, "rev-list", "--all").split()), (words, done)
    if ended == "succeeded":
        testbed.ok("plan", "adopt", PLAN, "--yes")
        testbed.write([{**ONE, **DONE}, {**TWO, **DONE}])
        assert land(testbed) == 0
        assert on_main(testbed) == ["README", "one", "two"]


def merged_by_people(testbed: Testbed, *words: str) -> None:
    git(testbed.folder / "lib", "merge", "-q", "--no-ff", "--no-edit", f"coord/{PLAN}")
    if words:
        git(testbed.folder / "lib", *words)


def add(testbed: Testbed, todo: dict) -> None:
    with testbed.edited() as file:
        file["coordination"]["todos"].append({"task": "t", "plan": PLAN, **todo})


@pytest.mark.parametrize("way", ["revert", "fresh", "discard"])
def test_work_that_people_merged_and_reverted_neither_lands_nor_is_built_on(testbed: Testbed, way: str):
    swept(testbed, ONE)
    merged_by_people(testbed, "revert", "--no-edit", "-m", "1", "HEAD")

    refused = testbed.coord("land", PLAN, "--yes")
    assert refused.code == 3
    assert f"coord plan discard {PLAN}" in refused.err
    add(testbed, {**TWO, "action": "cat one > two", "blocked_by": ["ONE"]})
    failed = testbed.sweep()
    assert failed.states == {"ONE": "succeeded", "TWO": "failed"}
    assert "ONE" in failed.todo("TWO")["error"]

    if way == "revert":
        git(testbed.folder / "lib", "revert", "--no-edit", "HEAD")
    if way == "discard":
        testbed.ok("plan", "discard", PLAN, "--yes")
    testbed.ok("sweep", PLAN, *(["--fresh", "--yes"] if way == "fresh" else []))
    assert land(testbed) == 0
    assert on_main(testbed) == ["README", "one", "two"]


@pytest.mark.parametrize("merged", ["both", "the first"])
def test_the_work_of_one_todo_that_people_took_out_is_named(testbed: Testbed, merged: str):
    swept(testbed, ONE)
    lib = testbed.folder / "lib"
    one = git(lib, "rev-parse", f"coord/{PLAN}")
    add(testbed, TWO)
    testbed.ok("sweep", PLAN)
    git(lib, "merge", "-q", "--ff-only", f"coord/{PLAN}" if merged == "both" else one)
    git(lib, "revert", "--no-edit", one)

    refused = testbed.coord("land", PLAN, "--yes")
    assert (refused.code, "ONE" in refused.err, "TWO" in refused.err) == (3, True, False)
    add(testbed, {"id": "THREE", "repo": "lib", "action": "echo 3 > three"})
    failed = testbed.sweep()
    assert "ONE" in failed.todo("THREE")["error"]
    assert "TWO" not in failed.todo("THREE")["error"]


def test_work_that_people_merged_and_went_on_from_is_there(testbed: Testbed):
    swept(testbed, ONE)
    merged_by_people(testbed)
    (testbed.folder / "lib" / "one").write_text("another way\n")
    git(testbed.folder / "lib", "commit", "-qam", "gone on")
    add(testbed, TWO)

    testbed.ok("sweep", PLAN)
    assert land(testbed) == 0
    assert {"two"} < set(on_main(testbed))
