"""The story *operated*: a run is paused, loses its worker, is resumed, watched and cancelled, each from
another terminal.
"""

from __future__ import annotations

import os
import re

from coordination.backend.daemon import alive
from coordination.processes import DUMP_STACKS
from tests.acceptance.gate import Gate
from tests.stage import PLAN, Stage
from tests.waiting import until


def test_a_run_is_paused_loses_its_worker_goes_on_and_is_cancelled(stage: Stage) -> None:
    first, second = Gate(stage.folder, "first"), Gate(stage.folder, "second")
    stage.settings = {"lease_ttl": "5s", "heartbeat": "1s", "kill_grace": "500ms"}
    stage.write(
        [
            {"id": "A", "repo": "api", "action": first.action},
            {"id": "B", "repo": "web", "action": second.action, "blocked_by": ["A"]},
            {"id": "C", "repo": "api", "blocked_by": ["B"]},
        ]
    )
    stage.up()
    stage.ok("sweep", PLAN, "--detach")
    killed = first.wait()
    os.kill(stage.daemon("worker").pid, DUMP_STACKS)  # and it goes on
    until(lambda: "most recent call first" in (stage.state / "worker.log").read_text())
    watch = stage.begin("watch")

    stage.ok("pause")
    watch.says("the run is paused")
    worker = stage.kill("worker")
    until(lambda: not alive(killed))
    waits_for = until(lambda: stage.todo("A")["waits_for"])
    without = stage.shown()

    assert without.json["status"] == "paused"
    assert re.fullmatch(r"\S+@\S+", without.json["steered_by"])
    assert without.states == {"A": "running", "B": "waiting", "C": "waiting"}
    assert without.todo("A")["worker"].startswith(f"coord-{worker}@")
    assert re.match(rf"coord-{worker}@\S+, which does not answer", waits_for)

    stage.up()
    until(lambda: stage.todo("A")["state"] == "ready")
    lost = stage.shown()

    assert lost.json["status"] == "paused"

    stage.ok("resume")
    until(lambda: first.wait() != killed)
    again = stage.shown()

    assert (again.json["status"], again.json["steered_by"]) == ("running", None)
    assert (again.todo("A")["state"], again.todo("A")["attempt"]) == ("running", 2)
    assert not again.todo("A")["worker"].startswith(f"coord-{worker}@")

    first.open()
    stopped = second.wait()
    cancelled = stage.coord("cancel", "--json")
    followed = watch.done()

    assert cancelled.code == 0
    assert cancelled.json["status"] == "cancelled"
    assert cancelled.states == {"A": "succeeded", "B": "cancelled", "C": "cancelled"}
    assert re.fullmatch(r"cancelled by \S+@\S+", cancelled.todo("C")["error"])
    assert not alive(stopped)
    assert followed.code == 1
    told = stage.ok("show-run").out.splitlines()
    assert re.search(r" cancelled by \S+@\S+, by ", told[0])
    assert [line.split()[:4] for line in told[2:5]] == [
        ["A", "api", "succeeded", "2"],
        ["B", "web", "cancelled", "1"],
        ["C", "api", "cancelled", "cancelled"],
    ]
