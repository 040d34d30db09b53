"""Story: repositories come, move and go in the file while `coord up --detach` serves it."""

from __future__ import annotations

import shutil

from coordination.backend.keys import Keys
from coordination.runs.worker_registry import Worker, WorkerRegistry
from tests.acceptance.gate import Gate
from tests.stage import PLAN, Stage
from tests.waiting import until


def serving(stage: Stage) -> Worker:
    (worker,) = WorkerRegistry(stage.redis(), Keys("coord")).workers()
    return worker


def test_a_repository_that_is_added_while_up_detached_runs_is_served_by_the_same_worker(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api"}])
    stage.up()
    pid = serving(stage).pid

    stage.write([{"id": "A", "repo": "api"}, {"id": "B", "repo": "web"}, {"id": "C", "repo": "lib"}])
    until(lambda: "web" in serving(stage).repos)
    swept = stage.sweep()

    assert swept.code == 0, swept.err
    assert (serving(stage).pid, set(serving(stage).repos), serving(stage).jobs) == (
        pid,
        {"api", "web", "lib"},
        3,
    )


def test_a_broken_file_changes_nothing_and_is_told_in_the_log(stage: Stage) -> None:
    stage.write([{"id": "A", "repo": "api"}])
    stage.up()
    good = stage.file.read_text()

    stage.file.write_text(good + "coordination: {")
    until(lambda: "cannot be used" in (stage.state / "worker.log").read_text())
    stage.file.write_text(good)

    assert stage.sweep().code == 0
    assert serving(stage).repos == ("api",)


def test_a_repository_that_moves_is_served_from_there_when_what_runs_has_ended_and_one_that_goes_no_more(
    stage: Stage,
) -> None:
    first = Gate(stage.folder)
    both = [
        {"id": "A", "repo": "api", "action": first.action},
        {"id": "B", "repo": "api", "blocked_by": ["A"]},
        {"id": "C", "repo": "web"},
    ]
    stage.write(both)
    stage.up()
    stage.ok("sweep", PLAN, "--detach")
    first.wait()
    old, new = stage.folder / "api", stage.folder / "moved"
    shutil.copytree(old, new)

    stage.write([todo for todo in both if todo["repo"] == "api"], repos={"api": {"path": "moved"}})
    until(lambda: serving(stage).repos == ("api",) and "api" in serving(stage).unfit)
    while_it_runs = serving(stage).places
    first.open()
    watched = stage.coord("watch")

    assert while_it_runs == {"api": str(old)}
    assert watched.code == 0, watched.err
    assert serving(stage).places == {"api": str(new)}
