"""Stories: the id of a deleted record is used again, or is not."""

from __future__ import annotations

import re
import shutil

import pytest
import yaml

from tests.testbed import PLAN, Testbed, git

CAMPAIGN = ("campaign", "Mark", "--all", "--run", "echo x > MARK", "--check", "true")
CREATED = {
    "issue": ("--title", "one"),
    "plan": ("--title", "one"),
    "todo": ("--task", "one", "--repo", "a"),
    "dep": ("--consumer", "a", "--provider", "b"),
}


@pytest.mark.parametrize("noun", CREATED)
def test_a_new_record_never_has_the_id_of_a_deleted_one(testbed: Testbed, noun: str):
    testbed.write(repos=["a", "b"])

    def create() -> str:
        return testbed.ok(noun, "create", *CREATED[noun]).out.strip()

    first, second = create(), create()
    testbed.ok(noun, "delete", second, "--yes")
    third = create()
    written = yaml.safe_load(testbed.file.read_text())
    section = {"dep": "dependencies"}.get(noun, f"{noun}s")
    written["coordination"][section] = [r for r in written["coordination"][section] if r["id"] != third]
    testbed.file.write_text(yaml.safe_dump(written))
    fourth = create()

    assert len({first, second, third, fourth}) == 4
    assert not testbed.server.running(), "an edit starts no server"


def test_each_trace_of_a_deleted_plan_keeps_its_id_from_being_used_again(testbed: Testbed):
    testbed.write(repos=["a", "b"], plans=[{"id": "PLAN-002", "title": "another"}])
    plan = testbed.ok(*CAMPAIGN, "--sweep", "--json").json["plan_id"]
    assert plan == "PLAN-003", "PLAN-001 and PLAN-002 are in the file"
    testbed.ok("history", "search", "--json")
    testbed.ok("plan", "delete", plan, "--cascade", "--yes", "--change-set", "keep")

    def next_plan() -> str:
        found: str = testbed.ok(*CAMPAIGN, "--dry-run", "--json").json["plan"]["id"]
        return found

    testbed.ok("down")
    assert next_plan() == "PLAN-004", "by the journal"
    for journal in testbed.state.glob("*.journal*"):
        journal.unlink()
    assert next_plan() == "PLAN-004", "by the history"
    for database in testbed.state.glob("history.db*"):
        database.unlink()
    assert next_plan() == "PLAN-004", "by the branches"
    for repo in ("a", "b"):
        git(testbed.folder / repo, "pack-refs", "--all")
    assert next_plan() == "PLAN-004", "by packed branches"
    for repo in ("a", "b"):
        git(testbed.folder / repo, "branch", "-q", "-D", f"coord/{plan}")
        shutil.rmtree(testbed.folder / repo / ".git" / "refs" / "coord", ignore_errors=True)
        (testbed.folder / repo / ".git" / "packed-refs").write_text("")
    testbed.up()
    assert next_plan() == "PLAN-004", "by Redis"


def test_the_first_file_takes_no_id_that_the_folder_knows(testbed: Testbed):
    testbed.write([{"id": "TODO-001", "repo": "a", "action": "echo 1 > one"}])
    testbed.ok("sweep", PLAN)
    testbed.file.rename(testbed.folder / "before.yaml")
    testbed.ok("init")

    declared = yaml.safe_load(testbed.file.read_text())["coordination"]
    assert [plan["id"] for plan in declared["plans"]] == ["PLAN-002"]
    assert [todo["id"] for todo in declared["todos"]] == ["TODO-002", "TODO-003", "TODO-004"]
    assert {todo["plan"] for todo in declared["todos"]} == {"PLAN-002"}


def test_a_journal_and_a_history_that_are_damaged_are_no_obstacle(testbed: Testbed):
    testbed.write(repos=["a"])
    testbed.ok("plan", "create", "--title", "one")
    (testbed.state / "history.db").write_bytes(b"no database")
    with (testbed.state / "ecosystem.yaml.journal").open("ab") as journal:
        journal.write(b'{"file": 9, "text": "###"}\n[1]\n\xff\xfe\n{"edit": 1, "events": 7}\n')

    assert testbed.ok("plan", "create", "--title", "two").out.strip() == "PLAN-003"


WITH_LIBRARY = """
from coordination import Conflict, Coord
with Coord() as coord:
    for operation in (coord.landings.land, coord.landings.revert, coord.pr.create):
        try:
            operation("PLAN-001")
            print("done")
        except Conflict:
            print("refused")
        except Exception as other:
            print(type(other).__name__)
"""


def test_work_in_a_repository_that_no_todo_of_the_plan_names_lands_only_by_its_name(testbed: Testbed):
    todos = [{"id": f"T-{name}", "repo": name, "action": "echo 1 > one"} for name in ("a", "b")]
    testbed.write(todos)
    testbed.up()
    assert testbed.sweep().code == 0
    done = [{**todo, "status": "completed"} for todo in todos]
    testbed.write(done[:1], repos=["a", "b"])

    for words in (("land", PLAN, "--yes"), ("land", PLAN, "--dry-run"), ("pr", "create", PLAN)):
        assert testbed.coord(*words).code == 6
    assert testbed.python(WITH_LIBRARY).out.split() == ["refused", "NotFound", "refused"]
    assert not has(testbed, "a")
    assert not has(testbed, "b")
    testbed.ok("land", PLAN, "--yes", "--repo", "a")
    assert (has(testbed, "a"), has(testbed, "b")) == (True, False)
    assert testbed.run()["overrides"] == []
    testbed.ok("land", PLAN, "--yes", "--repo", "b")
    assert has(testbed, "b")
    assert lands_despite(testbed, "b") == "--repo=b"

    assert testbed.coord("revert", PLAN, "--yes").code == 6
    assert has(testbed, "b")
    testbed.ok("revert", "last", "--yes")
    assert (has(testbed, "a"), has(testbed, "b")) == (True, False), "the run that landed it names it"


def lands_despite(testbed: Testbed, repo: str) -> str:
    """Return the option of the newest landing that skipped a safeguard; its run, event and commit agree."""
    run = testbed.run()
    event = testbed.ok("event", "list", "--kind", "command.land", "--json").json[-1]
    trailer = git(
        testbed.folder / repo, "log", "-1", "--format=%(trailers:key=Coord-Override,valueonly)", "main"
    )
    assert trailer.strip() == f"{event['data']['overrides']} by {run['actor']}"
    assert run["overrides"] == [event["data"]["overrides"]]
    return str(run["overrides"][0])


def has(testbed: Testbed, repo: str) -> bool:
    return "one" in git(testbed.folder / repo, "ls-tree", "--name-only", "main").split()


def todo_of(name: str, **fields: str) -> dict[str, str]:
    return {"id": name, "repo": "a", "task": f"write {name}", "action": f"echo 1 > {name}", **fields}


def test_a_sweep_does_not_go_on_with_the_work_of_another_plan_of_its_id(testbed: Testbed):
    testbed.write([todo_of("T1")])
    testbed.up()
    assert testbed.sweep().code == 0
    old = git(testbed.folder / "a", "rev-parse", f"coord/{PLAN}")
    testbed.write([todo_of("T1", task="something else", action="echo 2 > two")], plan={"title": "new"})

    assert testbed.sweep().code == 6
    assert testbed.coord("sweep", PLAN, "--dry-run").code == 6
    assert testbed.coord("todo", "execute", "T1").code == 6
    script = "from coordination import Coord\nwith Coord() as coord: coord.runs.sweep('PLAN-001')"
    assert "Conflict" in testbed.python(script).err
    assert git(testbed.folder / "a", "rev-parse", f"coord/{PLAN}") == old

    fresh = testbed.ok("sweep", PLAN, "--fresh", "--yes", "--json").json
    assert fresh["takes_over"] == []
    testbed.ok("land", PLAN, "--yes")
    landed = git(testbed.folder / "a", "ls-tree", "--name-only", "main").split()
    assert ("two" in landed, "T1" in landed) == (True, False)


def test_the_work_of_another_plan_that_lands_by_name_is_recorded(testbed: Testbed):
    testbed.write([todo_of("T1")])
    testbed.up()
    assert testbed.sweep().code == 0
    testbed.write([todo_of("T2", status="cancelled")], plan={"title": "new"})
    assert testbed.coord("land", PLAN, "--yes").code == 6
    testbed.ok("land", PLAN, "--yes", "--repo", "a")
    assert lands_despite(testbed, "a") == "--repo=a"


def test_a_sweep_goes_on_with_the_work_of_another_plan_if_a_person_accepts_it(testbed: Testbed):
    testbed.write([todo_of("T1")])
    testbed.up()
    assert testbed.sweep().code == 0
    testbed.write([todo_of("T2")], plan={"title": "new"})
    swept = testbed.ok("sweep", PLAN, "--accept", PLAN, "--json").json
    (taken,) = swept["takes_over"]

    (event,) = (
        one
        for one in testbed.ok("event", "list", "--kind", "command.sweep", "--json").json
        if one["run"] == swept["run_id"]
    )
    assert swept["overrides"] == [event["data"]["overrides"]] == [f"--accept={PLAN}"]
    assert (taken["repo"], taken["commits"], taken["todos"]) == ("a", 1, ["T1"])
    assert testbed.coord("sweep", PLAN).code == 0, "it is the work of this plan by now"
    testbed.ok("land", PLAN, "--yes")


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(
            {"plan": {"title": "renamed"}, "todos": [todo_of("T1", status="completed")]}, id="renamed"
        ),
        pytest.param({"todos": [todo_of("T1", status="completed", task="reworded")]}, id="reworded"),
        pytest.param({"todos": []}, id="replaced"),
    ],
)
def test_a_plan_that_changes_goes_on_with_its_own_work_and_says_so(testbed: Testbed, after: dict[str, list]):
    testbed.write([todo_of("T1")])
    testbed.up()
    assert testbed.sweep().code == 0
    testbed.write(**{**after, "todos": [*after["todos"], todo_of("T2")]})

    (previewed,) = testbed.ok("sweep", PLAN, "--dry-run", "--json").json["takes_over"]
    done = testbed.ok("sweep", PLAN, "--json")
    assert done.json["takes_over"] == [previewed]
    assert (previewed["repo"], previewed["commits"], previewed["todos"]) == ("a", 1, ["T1"])
    assert previewed["branch"] in done.err


@pytest.fixture
def with_work(testbed: Testbed) -> Testbed:
    """A plan and a todo without plan, each with a change set that has not landed."""
    testbed.write([todo_of("T1"), todo_of("T2", plan=None)])
    testbed.up()
    assert testbed.sweep().code == 0
    testbed.ok("todo", "execute", "T2")
    return testbed


def branches(testbed: Testbed) -> list[str]:
    """Branches of change sets: that of a run may go at any moment."""
    found = git(testbed.folder / "a", "branch", "--format=%(refname:short)", "--list", "coord/*").split()
    return [name for name in found if not re.match(r"coord/\d{8}-", name)]


DELETIONS = (("plan", "delete", PLAN, "--cascade", "--yes"), ("todo", "delete", "T2", "--yes"))


def test_a_record_with_unlanded_work_is_deleted_only_with_a_word_on_that(with_work: Testbed):
    before = with_work.file.read_text()
    for server in ("running", "stopped"):
        for words in DELETIONS:
            assert with_work.coord(*words).code == 6, server
        script = "from coordination import Coord\nwith Coord() as coord: coord.manager.delete_todo('T2')"
        assert "Conflict" in with_work.python(script).err
        with_work.ok("down")
    assert not with_work.server.running(), "a refusal starts no server"
    assert with_work.coord(*DELETIONS[0][:3], "--yes", "--change-set", "discard").code == 6, "T1 names it"
    assert (with_work.file.read_text(), branches(with_work)) == (before, ["coord/PLAN-001", "coord/T2"])

    for words in DELETIONS:
        kept = with_work.ok(*words, "--change-set", "keep", "--json").json
        assert any("coord changes" in note for note in kept["notes"])
    assert branches(with_work) == ["coord/PLAN-001", "coord/T2"]
    assert with_work.ok("plan", "create", "--title", "new").out.strip() == "PLAN-002"
    (gone,) = with_work.ok("plan", "discard", PLAN, "--yes", "--json").json["repos"]
    assert branches(with_work) == ["coord/T2"]
    assert git(with_work.folder / "a", "cat-file", "-t", f"refs/coord/discarded/{PLAN}/{gone['tip'][:12]}")
    assert with_work.coord("plan", "discard", PLAN, "--yes").code == 2, "nothing is left"


def test_a_record_with_unlanded_work_is_deleted_with_it_and_the_tip_is_kept(with_work: Testbed):
    tips = {git(with_work.folder / "a", "rev-parse", branch) for branch in branches(with_work)}
    with_work.ok("down")
    for words in DELETIONS:
        with_work.ok(*words, "--change-set", "discard")

    assert branches(with_work) == []
    refs = git(with_work.folder / "a", "for-each-ref", "--format=%(objectname)", "refs/coord/discarded")
    assert tips <= set(refs.split())
    assert with_work.ok("changes", "--json").json == []
    assert not yaml.safe_load(with_work.file.read_text())["coordination"].get("todos")


def test_a_record_whose_work_has_landed_is_deleted_as_any_other(with_work: Testbed):
    for name in (PLAN, "T2"):
        with_work.ok("land", name, "--yes")
    for server_runs, words in zip((True, False), DELETIONS, strict=True):
        assert bool(with_work.server.running()) is server_runs
        with_work.ok(*words)
        with_work.ok("down")
