"""Story: a todo succeeds, the next one fails, and somebody sweeps again instead of retrying: nothing runs on
a base without the result.
"""

from __future__ import annotations

import json
import re

import pytest

from coordination import Coord
from coordination.runs.submission.refusals import ACCEPTED, NotLanded
from tests.testbed import PLAN, Testbed, git

LIB = {"id": "LIB", "repo": "lib", "action": "echo 2 > version"}
APP = {"id": "APP", "repo": "app", "blocked_by": ["LIB"]}


@pytest.fixture
def half_done(testbed: Testbed) -> Testbed:
    """LIB succeeded and is completed, APP failed and is mended; OTHER, of another plan, waits for LIB by way
    of a closed issue.
    """
    plan = {"id": "PLAN-002", "title": "another"}
    other = {"id": "OTHER", "repo": "app", "plan": "PLAN-002", "blocked_by": ["FREE"]}
    free = {"id": "FREE", "repo": "app", "blocked_by": ["LIB"], "status": "completed"}
    testbed.write([LIB, {**APP, "action": "false"}, free, other], plans=[plan])
    testbed.up()
    assert testbed.sweep().code == 3
    testbed.file.write_text(testbed.file.read_text().replace("action: 'false'", "action: 'true'"))
    return testbed


def status_of(testbed: Testbed, todo: str) -> str:
    found: str = json.loads(testbed.ok("show-todo", todo, "--json").out)["status"]
    return found


def test_a_todo_of_another_plan_is_refused_until_the_result_has_landed(half_done: Testbed):
    run = half_done.run()["run_id"]
    assert status_of(half_done, "LIB") == "completed"

    refused = half_done.coord("sweep", "PLAN-002")
    assert refused.code == 6
    assert f"branch coord/{run} of lib" in refused.err
    assert f"coord land {PLAN}" in refused.err
    assert half_done.coord("sweep", "PLAN-002", "--dry-run").code == 6
    with Coord(half_done.file) as coord:
        for begin, name in ((coord.runs.sweep, "PLAN-002"), (coord.runs.execute, "OTHER")):
            with pytest.raises(NotLanded) as raised:
                begin(name)
            assert [(finding.todo, finding.repo) for finding in raised.value.findings] == [("LIB", "lib")]
    assert half_done.run()["run_id"] == run, "nothing was begun"

    lib = half_done.folder / "lib"
    git(lib, "merge", "-q", "--squash", f"coord/{run}")
    git(lib, "commit", "-qm", "squashed")
    (lib / "version").write_text("3\n")
    git(lib, "commit", "-qam", "gone on")
    assert half_done.coord("sweep", "PLAN-002").code == 0


def test_still_possible_redis_says_that_a_person_has_accepted_it(half_done: Testbed):
    with Coord(half_done.file) as coord, coord.reached() as connection:
        connection.redis.hset(connection.keys.commits, "LIB", ACCEPTED)
    assert half_done.coord("sweep", "PLAN-002", "--dry-run").code == 0


def test_a_result_that_was_recorded_and_is_gone_is_refused_until_a_person_accepts_it(half_done: Testbed):
    run = half_done.run()["run_id"]
    lib = half_done.folder / "lib"
    commit = git(lib, "rev-parse", f"coord/{run}")
    kept = f"refs/coord/discarded/{run}/{commit[:12]}"
    assert kept in half_done.ok("run", "clean", run, "--unmerged", "--yes").err
    assert git(lib, "rev-parse", kept) == commit, "clean deletes no last ref of a commit"
    for ref in git(lib, "for-each-ref", "--format=%(refname)", "refs/coord").split():
        git(lib, "update-ref", "-d", ref)
    git(lib, "reflog", "expire", "--expire=now", "--all")
    git(lib, "gc", "-q", "--prune=now")

    assert half_done.coord("sweep", "PLAN-002").code == 6
    assert half_done.coord("sweep", "PLAN-002", "--accept", "OTHER").code == 2
    assert half_done.coord("sweep", "PLAN-002", "--accept", "LIB").code == 0


def test_a_result_is_found_by_its_trailers_where_redis_has_lost_its_data(half_done: Testbed):
    run = half_done.run()["run_id"]
    half_done.ok("down")
    with half_done.redis() as client:
        client.flushall()
    half_done.up()

    assert half_done.coord("sweep", "PLAN-002").code == 6
    git(half_done.folder / "lib", "merge", "-q", f"coord/{run}")
    assert half_done.coord("sweep", "PLAN-002").code == 0


def test_a_todo_that_fails_when_it_is_done_again_is_pending_and_no_later_runs_branch_stands_for_it(
    half_done: Testbed,
):
    run = half_done.run()["run_id"]
    before = half_done.file.read_text()
    half_done.file.write_text(before.replace("echo 2 > version", "exit 1"))
    assert half_done.coord("retry", run, "--from", "LIB").code == 3

    assert status_of(half_done, "LIB") == "pending"
    half_done.file.write_text(before)  # a person's copy, by which LIB is completed
    half_done.redis().hset(
        "coord:commits", "LIB", f"{git(half_done.folder / 'lib', 'rev-parse', f'coord/{run}')} {run} lib"
    )
    refused = half_done.coord("sweep", PLAN)
    assert refused.code == 6
    assert f"branch coord/{run} of lib" in refused.err


def test_a_rollback_reopens_what_its_run_completed_and_nothing_that_a_person_completes_later(
    half_done: Testbed,
):
    run = half_done.run()["run_id"]
    half_done.file.write_text(re.sub(r"actual_hours: [0-9.]+", "actual_hours: 2", half_done.file.read_text()))
    half_done.ok("rollback", run, "--yes")
    assert status_of(half_done, "LIB") == "pending", "though a person has changed its hours"
    assert half_done.redis().hgetall("coord:commits") == {}
    assert half_done.coord("sweep", PLAN, "--todo", "APP").code == 5

    half_done.ok("complete-todo", "LIB")
    half_done.ok("rollback", run, "--yes")
    assert status_of(half_done, "LIB") == "completed"
    assert half_done.sweep().states == {"APP": "succeeded"}, "no result of work by hand is looked for"


def test_a_rollback_that_leaves_a_todo_completed_leaves_what_makes_a_sweep_refuse(half_done: Testbed):
    run = half_done.run()["run_id"]
    half_done.file.write_text(re.sub(r"actual_hours: [0-9.]+", "actual_hours: 2", half_done.file.read_text()))
    with half_done.redis() as client:
        client.hdel(f"coord:run:{run}:facts", "LIB filed")  # as where another file was written to

    told = half_done.ok("rollback", run, "--yes")

    assert "still completed" in told.err
    assert status_of(half_done, "LIB") == "completed"
    assert half_done.coord("sweep", PLAN).code == 6
