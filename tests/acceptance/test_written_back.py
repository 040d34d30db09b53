"""The results of a run that nobody follows reach the file."""

from __future__ import annotations

import os
import signal

from coordination.ecosystem.document import load
from tests.acceptance.gate import Gate
from tests.stage import PLAN, Stage, git
from tests.waiting import until


def status(stage: Stage, todo: str) -> str:
    return next(t for t in load(stage.file).ecosystem.coordination.todos if t.id == todo).status


def test_a_worker_writes_the_results_of_a_sweep_whose_terminal_is_gone(stage: Stage) -> None:
    gate = Gate(stage.folder)
    stage.write(
        [{"id": "a", "repo": "api", "action": gate.action}, {"id": "b", "repo": "web", "action": "false"}]
    )
    sweep = stage.begin("sweep", PLAN)
    gate.wait()
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()

    gate.open()

    assert git(stage.folder / "api", "status", "--porcelain") == ""
    until(lambda: status(stage, "a") == "completed")
    assert status(stage, "b") == "pending"
    run_id = stage.run()["run_id"]
    (event,) = stage.ok("history", "a", "--kind", "todo.completed", "--json").json
    assert event["data"] == {"run": run_id}
    assert run_id in stage.ok("history", "a").out
    assert stage.ok("sync", "last", "--json").json == {"run_id": run_id, "completed": [], "reopened": []}
