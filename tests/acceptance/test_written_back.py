"""The results of a run that nobody follows reach the file."""

from __future__ import annotations

import os
import signal

from coordination.ecosystem.document import load
from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed, git
from tests.waiting import until


def status(testbed: Testbed, todo: str) -> str:
    return next(t for t in load(testbed.file).ecosystem.coordination.todos if t.id == todo).status


def test_a_worker_writes_the_results_of_a_sweep_whose_terminal_is_gone(testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    testbed.write(
        [{"id": "a", "repo": "api", "action": gate.action}, {"id": "b", "repo": "web", "action": "false"}]
    )
    sweep = testbed.begin("sweep", PLAN)
    gate.wait()
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()

    gate.open()

    assert git(testbed.folder / "api", "status", "--porcelain") == ""
    until(lambda: status(testbed, "a") == "completed")
    assert status(testbed, "b") == "pending"
    run_id = testbed.run()["run_id"]
    (event,) = testbed.ok("history", "a", "--kind", "todo.completed", "--json").json
    assert event["data"] == {"run": run_id}
    assert run_id in testbed.ok("history", "a").out
    assert testbed.ok("sync", "last", "--json").json == {"run_id": run_id, "completed": [], "reopened": []}
