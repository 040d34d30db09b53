"""Change sets whose todos people mend: a red criterion, a conflict in front of a live worker, a rewritten
history, an owner that is not clear.
"""

from __future__ import annotations

from pathlib import Path
from subprocess import CalledProcessError

import pytest
import yaml

from tests.acceptance.gate import Gate
from tests.stage import PLAN, Stage, git
from tests.waiting import until

NEWER = {"text": "it is newer", "check": "grep -q newer format"}


def statuses(stage: Stage) -> list[str | None]:
    todos = yaml.safe_load(stage.file.read_text())["coordination"]["todos"]
    return [todo.get("status") for todo in todos]


def test_a_red_criterion_stays_red_until_its_tree_is_mended_and_a_retry_completes_the_todo(stage: Stage):
    lib = stage.repo("lib")
    todos = [
        {"id": "A", "repo": "lib", "action": "echo new > format", "acceptance_criteria": ["nice", NEWER]},
        {"id": "B", "repo": "lib", "action": "echo b > b", "blocked_by": ["A"]},
    ]
    stage.write(todos)
    stage.up()
    assert stage.sweep().states == {"A": "succeeded", "A.accept.2": "failed", "B": "skipped"}
    assert statuses(stage) == [None, None]
    assert stage.coord("retry", "last", "--json").states["A.accept.2"] == "failed", "nothing has changed"

    run = stage.run()["run_id"]
    place = stage.state / "worktrees" / run / "lib"
    (place / "format").write_text("newer\n")
    git(place, "commit", "-qam", "mended")
    mended = git(place, "rev-parse", "HEAD")
    done = stage.coord("retry", "last", "--json")

    assert done.states == {"A": "succeeded", "A.accept.2": "succeeded", "B": "succeeded"}, done.err
    assert statuses(stage) == ["completed", "completed"]
    (check,) = stage.ok("show-qa", "last", "--json").json["checks"]
    assert (check["verdict"], check["commit"]) == ("green", mended)
    assert git(lib, "show", f"coord/{PLAN}:format") == "newer"


def test_a_conflict_waits_for_a_person_and_a_live_worker_goes_on_with_the_merge(stage: Stage):
    lib = stage.repo("lib", code="one = 1\n")
    first = {"id": "A", "repo": "lib", "action": "echo 'one = 2' > code"}
    stage.write([first], repos={"lib": {}})
    stage.up()
    assert stage.sweep().code == 0
    (lib / "code").write_text("one = 3\n")
    git(lib, "commit", "-qam", "theirs")
    gate = Gate(stage.folder)  # else the run may have ended before it is asked for
    more = {"id": "B", "repo": "lib", "action": f"grep 'one = 5' code && {gate.action}; echo b > b"}
    stage.write([{**first, "status": "completed"}, more], repos={"lib": {}})
    sweep = stage.begin("sweep", PLAN, "--json")
    until(lambda: stage.run()["status"] == "running" and stage.todo("B")["state"] == "parked")

    shown = stage.coord("resolve", PLAN, "lib", "--json")
    assert (shown.code, shown.json["files"]) == (3, ["code"])
    place = Path(shown.json["path"])
    with pytest.raises(CalledProcessError):
        git(place, "merge", "-q", "main")
    (place / "code").write_text("one = 5\n")
    git(place, "commit", "-qam", "merged")
    assert stage.coord("resolve", PLAN, "lib", "--json").json["taken_up"] == stage.run()["run_id"]
    gate.open()

    assert sweep.done(60).code == 0
    assert git(lib, "show", f"coord/{PLAN}:code") == "one = 5"


def test_a_todo_that_rewrites_history_fails_by_name_and_leaves_the_change_set(stage: Stage):
    lib = stage.repo("lib")
    first = {"id": "A", "repo": "lib", "action": "echo a > a"}
    stage.write([first])
    stage.up()
    assert stage.sweep().code == 0
    tip = git(lib, "rev-parse", f"coord/{PLAN}")
    rewrite = "git reset -q --hard HEAD~1; echo c > c; git add c; git commit -qm rewritten"
    more = {"id": "B", "repo": "lib", "action": rewrite, "blocked_by": ["A"]}
    stage.write([{**first, "status": "completed"}, more])

    swept = stage.sweep()
    assert (swept.code, swept.states["B"]) == (3, "failed")
    assert "rewritten" in swept.todo("B")["error"]
    assert git(lib, "rev-parse", f"coord/{PLAN}") == tip
    assert [one["tip"] for one in stage.ok("changes", PLAN, "--json").json] == [tip]


def test_a_todo_of_two_plans_is_done_once_for_the_plan_that_took_it_first(stage: Stage):
    """Neither plan names it: both own the open todos of the repository."""
    gate = Gate(stage.folder)
    stage.write(
        [{"id": "A", "repo": "lib", "plan": None, "action": f"{gate.action}; echo a > a"}],
        plan={"repos": ["lib"]},
        plans=[{"id": "OTHER", "title": "another", "repos": ["lib"]}],
    )
    stage.up()
    first = stage.begin("sweep", PLAN)
    gate.wait()
    assert stage.coord("sweep", "OTHER").code == 6
    gate.open()
    assert first.done(60).code == 0
    assert "nothing to do" in stage.ok("sweep", "OTHER").err
    changes = stage.ok("changes", "--json").json
    assert [(one["plan"], one["todos"]) for one in changes] == [(PLAN, ["A"])]
