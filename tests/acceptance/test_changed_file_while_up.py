"""Story: repositories come, move and go in the file while `coord up --detach` serves it."""

from __future__ import annotations

import shutil

from coordination.backend.keys import Keys
from coordination.runs.worker_registry import Worker, WorkerRegistry
from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed
from tests.waiting import until


def serving(testbed: Testbed) -> Worker:
    (worker,) = WorkerRegistry(testbed.redis(), Keys("coord")).workers()
    return worker


def test_a_repository_that_is_added_while_up_detached_runs_is_served_by_the_same_worker(
    testbed: Testbed,
) -> None:
    testbed.write([{"id": "A", "repo": "api"}])
    testbed.up()
    pid = serving(testbed).pid

    testbed.write([{"id": "A", "repo": "api"}, {"id": "B", "repo": "web"}, {"id": "C", "repo": "lib"}])
    until(lambda: "web" in serving(testbed).repos)
    swept = testbed.sweep()

    assert swept.code == 0, swept.err
    assert (serving(testbed).pid, set(serving(testbed).repos), serving(testbed).jobs) == (
        pid,
        {"api", "web", "lib"},
        3,
    )


def test_a_broken_file_changes_nothing_and_is_told_in_the_log(testbed: Testbed) -> None:
    testbed.write([{"id": "A", "repo": "api"}])
    testbed.up()
    good = testbed.file.read_text()

    testbed.file.write_text(good + "coordination: {")
    until(lambda: "cannot be used" in (testbed.state / "worker.log").read_text())
    testbed.file.write_text(good)

    assert testbed.sweep().code == 0
    assert serving(testbed).repos == ("api",)


def test_a_repository_that_moves_is_served_from_there_when_what_runs_has_ended_and_one_that_goes_no_more(
    testbed: Testbed,
) -> None:
    first = Gate(testbed.folder)
    both = [
        {"id": "A", "repo": "api", "action": first.action},
        {"id": "B", "repo": "api", "blocked_by": ["A"]},
        {"id": "C", "repo": "web"},
    ]
    testbed.write(both)
    testbed.up()
    testbed.ok("sweep", PLAN, "--detach")
    first.wait()
    until(lambda: testbed.todo("C")["state"] == "succeeded")  # nobody serves `web` later
    old, new = testbed.folder / "api", testbed.folder / "moved"
    shutil.copytree(old, new)

    testbed.write([todo for todo in both if todo["repo"] == "api"], repos={"api": {"path": "moved"}})
    until(lambda: serving(testbed).repos == ("api",) and "api" in serving(testbed).unfit)
    while_it_runs = serving(testbed).places
    first.open()
    watched = testbed.coord("watch")

    assert while_it_runs == {"api": str(old)}
    assert watched.code == 0, watched.err
    assert serving(testbed).places == {"api": str(new)}
