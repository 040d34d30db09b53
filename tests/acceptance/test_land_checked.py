"""Story: a landing runs the quality checks for the trees that land, and nothing lands without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.remotes import add_remotes, files, remote
from tests.testbed import PLAN, Done, Testbed, git
from tests.waiting import until

SEEN = "json.load(open(os.environ['COORD_CONTEXT']))['predecessors']"
NEEDS = (
    f"python3 -c \"import json, os; at = [p['path'] for p in {SEEN} if p['repo'] == 'lib'][-1]; "
    "assert open(at + '/version').read() == '2\\n'\""
)
LIB = "echo lib >> $LEDGER; touch left; while test -e $HOLD; do sleep 0.05; done; ! test -e broken"
UNIT = {"name": "unit", "run": f"echo app >> $LEDGER; {NEEDS}"}
REPOS = {"lib": {"qa": LIB}, "app": {"qa": UNIT}}
TODOS = [
    {"id": "LIB", "repo": "lib", "action": "echo 2 > version"},
    {"id": "APP", "repo": "app", "blocked_by": ["LIB"], "action": "echo 2 > needs"},
]
DEPENDS = {"id": "D", "consumer": "app", "provider": "lib", "type": "runtime"}


@pytest.fixture
def swept(testbed: Testbed) -> Testbed:
    """A change set in two repositories, with a bare remote each."""
    testbed.env = {"LEDGER": str(testbed.folder / "ledger"), "HOLD": str(testbed.folder / "hold")}
    remotes = add_remotes(testbed, *REPOS)
    testbed.write(TODOS, repos={name: {**fields, **remotes[name]} for name, fields in REPOS.items()})
    with testbed.edited() as file:
        file["coordination"].update(dependencies=[DEPENDS])
    testbed.up()
    assert testbed.sweep().code == 0
    return testbed


def edit(testbed: Testbed, repo: str = "", **fields: object) -> None:
    """Change fields of a repository, or else of the plan."""
    with testbed.edited() as file:
        rows = file["repos"] if repo else file["coordination"]["plans"]
        rows[repo == "app"].update(fields)


def land(testbed: Testbed, *words: str) -> Done:
    return testbed.coord("land", PLAN, "--yes", "--json", *words)


def heads(testbed: Testbed) -> list[str]:
    return [git(remote(testbed, repo), "rev-parse", "main") for repo in REPOS]


def landed(testbed: Testbed) -> list[bool]:
    return ["version" in files(testbed, "lib"), "needs" in files(testbed, "app")]


def colleague(testbed: Testbed, repo: str, file: str) -> None:
    """Somebody pushes a file to the base branch."""
    other = testbed.folder / f"colleague-{file}"
    git(testbed.folder, "clone", "-q", str(remote(testbed, repo)), str(other))
    (other / file).write_text("x\n")
    git(other, "add", "--all")
    git(other, "commit", "-qm", file)
    git(other, "push", "-q", "origin", "main")


def changes(testbed: Testbed) -> dict[str, str]:
    return {one["repo"]: one["tip"] for one in testbed.ok("changes", PLAN, "--json").json}


def preview(testbed: Testbed) -> dict[str, bool]:
    found = testbed.ok("land", PLAN, "--dry-run", "--json").json
    return {one["check"]: one["green"] for one in found["checks"]}


def verdicts(testbed: Testbed) -> dict[str, dict[str, str]]:
    rows = testbed.ok("changes", PLAN, "--json").json
    return {one["repo"]: {check["name"]: check["verdict"] for check in one["checks"]} for one in rows}


def checks(done: Done) -> dict[str, tuple[str, bool]]:
    return {
        one["id"].removeprefix(f"{PLAN}.qa."): (one["state"], bool(one["cached"]))
        for one in done.json["todos"]
        if ".qa." in one["id"]
    }


def test_green_checks_land_and_their_results_are_reused(swept: Testbed):
    edit(swept, land={"method": "squash"})
    assert swept.ok("qa", "run", "--plan", PLAN).code == 0
    ran = list(swept.ledger)
    assert verdicts(swept) == {"lib": {"qa": "green"}, "app": {"unit": "green"}}
    assert preview(swept) == {"qa": True, "unit": True}

    done = land(swept)
    assert (done.code, landed(swept)) == (0, [True, True]), [
        (t["id"], t["state"], t["error"], t["waits_for"]) for t in done.json["todos"]
    ]
    assert checks(done) == {"lib.qa": ("succeeded", True), "app.unit": ("succeeded", True)}
    assert swept.ledger == ran, "they were green for the same trees"
    assert "left" not in files(swept, "lib")


def test_a_check_that_is_not_green_refuses_and_leaves_all_as_it_was(swept: Testbed):
    before, tips = heads(swept), changes(swept)
    edit(swept, "app", qa=UNIT | {"run": "echo 'no such thing' && exit 3"})
    red = land(swept)
    assert (red.code, red.json["status"]) == (3, "rolled_back")
    (listed, *_) = swept.ok("list-runs", "--json").json
    assert listed["counts"] == red.json["counts"]
    assert "compensated" not in listed["counts"]  # all that ran has only looked
    assert checks(red)["lib.qa"][0] == "succeeded", "it only looked"
    assert f"{PLAN}.qa.app.unit" in red.err
    assert verdicts(swept) == {"lib": {"qa": "green"}, "app": {"unit": "red"}}
    assert preview(swept) == {"qa": True, "unit": False}
    edit(swept, "lib", qa="./nowhere")
    assert land(swept).code == 3
    assert "could_not_run" in swept.todo(f"{PLAN}.qa.lib.qa")["error"]

    edit(swept, "lib", qa={"name": "qa", "run": "sleep 60", "timeout": "1s"})
    assert land(swept).code == 3
    assert "timed_out" in swept.todo(f"{PLAN}.qa.lib.qa")["error"]
    assert verdicts(swept)["lib"] == {"qa": "timed_out"}
    assert preview(swept)["qa"] is False, "it is never green"

    assert (heads(swept), changes(swept)) == (before, tips)
    assert git(swept.folder / "lib", "rev-parse", f"coord/{PLAN}") == tips["lib"], "a rollback takes nothing"
    done = land(swept, "--no-qa")
    assert (done.code, landed(swept)) == (0, [True, True])
    an_override_leaves_its_trace(swept, done.json["run_id"])


def an_override_leaves_its_trace(swept: Testbed, run: str) -> None:
    """The option and the person are in the run, the events, the history and the landed commit."""
    view = swept.run(run)
    assert (view["overrides"], bool(view["actor"])) == (["--no-qa"], True)
    assert f"{view['actor']}: --no-qa" in swept.ok("show-run", run).out
    (event,) = (
        one for one in swept.ok("event", "list", "--kind", "command.land", "--json").json if one["run"] == run
    )
    assert (event["actor"], event["data"]["overrides"]) == (view["actor"], "--no-qa")
    kept = swept.ok("history", "search", "--kind", "command.land", "--json").json
    assert [one["data"].get("overrides") for one in kept if one["data"].get("run") == run] == ["--no-qa"]
    for repo in ("lib", "app"):
        trailer = "--format=%(trailers:key=Coord-Override,valueonly)"
        assert git(remote(swept, repo), "log", "-1", trailer, "main").strip() == (
            f"--no-qa by {view['actor']}"
        )


def test_a_base_that_moves_after_the_check_is_checked_again_before_anything_is_pushed(swept: Testbed):
    hold = Path(swept.env["HOLD"])
    hold.touch()
    landing = swept.begin("land", PLAN, "--yes", "--json")
    until(lambda: swept.ledger == ["lib"])
    colleague(swept, "lib", "theirs")
    hold.unlink()
    done = landing.done()

    assert (done.code, landed(swept)) == (0, [True, True]), done.err
    assert "theirs" in files(swept, "lib")
    assert swept.ledger == ["lib", "app", "lib", "app"], "the other repository reads the tree that moved"
    swept.ok("revert", PLAN, "--yes")

    edit(swept, "lib", qa=f"true; {LIB}")  # its results count no more
    hold.touch()
    before = len(swept.ledger)
    landing = swept.begin("land", PLAN, "--yes", "--json")
    until(lambda: len(swept.ledger) > before)
    colleague(swept, "lib", "broken")
    hold.unlink()
    refused = landing.done()
    assert (refused.code, landed(swept)) == (3, [False, False])
    assert f"{PLAN}.qa.lib.qa is not green for what would land now" in refused.err


def test_with_atomic_repo_a_red_check_keeps_its_own_repository_out(swept: Testbed):
    edit(swept, land={"method": "ff", "atomic": "repo"})
    edit(swept, "app", qa=UNIT | {"run": "false"})

    assert (land(swept).code, landed(swept)) == (3, [True, False])
    edit(swept, "app", qa=NEEDS)
    done = land(swept)
    assert (done.code, landed(swept)) == (0, [True, True]), done.err


def test_a_landing_prints_one_line_for_each_repository_and_a_summary(swept: Testbed):
    done = swept.ok("land", PLAN, "--yes")

    lines = f"{done.out}{done.err}".splitlines()
    todos = [line.split()[1] for line in lines if line[0] in "▶✓✗↶-"]
    assert todos == [f"{PLAN}.land.lib", f"{PLAN}.land.app"]
    summary = [line for line in lines if f"{PLAN}.land." not in line and not line.startswith("  ")]
    assert len(summary) <= 4, summary
