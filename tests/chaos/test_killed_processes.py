"""Whatever is killed, the run ends right, and nothing is done by two at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

LEASE_S = 5.0
QUICK = {"lease_ttl": f"{LEASE_S:g}s", "heartbeat": "1s"}

TELLS = 'echo "$COORD_TODO_ID $COORD_ATTEMPT" >> "$LEDGER"; '
HOLDS_ON_ONCE = (
    TELLS + 'if [ "$COORD_ATTEMPT" = 1 ]; then echo $$ > "$LEDGER.pid"; exec sleep 300; fi; '
    'if kill -0 "$(cat "$LEDGER.pid")" 2>/dev/null; then echo "first still alive" >> "$LEDGER"; fi'
)
WAITS_FOR_GO = (
    TELLS
    + 'while [ ! -e "$LEDGER.go.$COORD_TODO_ID" ]; do sleep 0.05; done; echo done > "file-$COORD_TODO_ID"'
)


@pytest.fixture
def quick(testbed: Testbed) -> Testbed:
    testbed.settings = QUICK
    return testbed


def go(testbed: Testbed, todo: str) -> None:
    (testbed.folder / f"ledger.go.{todo}").touch()


def until_ledger(testbed: Testbed, line: str) -> None:
    until(lambda: line in testbed.ledger)


def worker_pid(testbed: Testbed, todo: str) -> int:
    return int(testbed.todo(todo)["worker"].removeprefix("coord-").partition("@")[0])


def events(testbed: Testbed, what: str) -> list[tuple[float, dict[str, Any]]]:
    found = testbed.redis().xrange(f"coord:run:{testbed.run()['run_id']}:events")
    return [(int(i.partition("-")[0]) / 1000, fields) for i, fields in found if fields["what"] == what]


def second_worker(testbed: Testbed) -> None:
    process = testbed.begin("worker", "--all")
    until(lambda: f"coord-{process.pid}@" in " ".join(testbed.redis().zrange("coord:workers", 0, -1)))


def test_promise_2_a_killed_workers_todo_begins_after_its_children(
    quick: Testbed,
):
    quick.write(
        [{"id": "A", "repo": "r1", "action": HOLDS_ON_ONCE}, {"id": "B", "repo": "r1", "blocked_by": ["A"]}]
    )
    quick.up()
    second_worker(quick)
    quick.ok("sweep", "PLAN-001", "--detach")
    until(lambda: (quick.folder / "ledger.pid").exists())
    assert quick.redis().hlen("coord.unacked") == 1  # the broker keeps its message until it is done

    os.kill(worker_pid(quick, "A"), signal.SIGKILL)
    quick.ok("watch", "last")

    assert quick.ledger == ["A 1", "A 2"]
    ((lost_at, lost),) = events(quick, "todo.lost")
    first, second = (at for at, fields in events(quick, "todo.running") if fields["todo"] == "A")
    assert lost["worker"] != quick.todo("A")["worker"]
    # The last renewal was before the kill, so the kill was before lost_at, and the lease ran out at most one
    # lease after it.
    assert second - lost_at < 60
    assert [fields["todo"] for _, fields in events(quick, "todo.succeeded")] == ["A", "B"]
    assert first < lost_at


def test_promise_4_a_killed_server_costs_no_todo_and_no_second_start(quick: Testbed):
    quick.write(
        [
            {"id": "A", "repo": "r1", "action": WAITS_FOR_GO},
            {"id": "B", "repo": "r2", "action": TELLS, "blocked_by": ["A"]},
            {"id": "C", "repo": "r3", "action": TELLS, "blocked_by": ["B"]},
        ]
    )
    quick.up()
    sweep = quick.begin("sweep", "PLAN-001")
    until_ledger(quick, "A 1")

    quick.kill("server")
    go(quick, "A")  # it ends while nobody can be told
    quick.up()
    until(lambda: sweep.poll() is not None)

    assert sweep.returncode == 0
    assert quick.ledger == ["A 1", "B 1", "C 1"]
    assert quick.run()["counts"] == {"succeeded": 3}


def test_promise_2_a_worker_that_slept_through_its_lease_settles_nothing(quick: Testbed):
    quick.write([{"id": "A", "repo": "r1", "action": WAITS_FOR_GO + '; echo "$COORD_ATTEMPT" > made-by'}])
    quick.up()
    second_worker(quick)
    quick.ok("sweep", "PLAN-001", "--detach")
    until_ledger(quick, "A 1")
    asleep = worker_pid(quick, "A")

    os.kill(asleep, signal.SIGSTOP)
    try:
        go(quick, "A")  # its command ends well, while it sleeps
        until(lambda: events(quick, "todo.lost"))
        until(
            lambda: (
                "still in use" in (quick.todo("A")["waits_for"] or "")
                or quick.todo("A")["state"] == "running"
            ),
        )
    finally:
        os.kill(asleep, signal.SIGCONT)
    quick.ok("watch", "last")

    run = quick.run()
    assert run["status"] == "succeeded"
    assert [fields["todo"] for _, fields in events(quick, "todo.succeeded")] == ["A"]
    assert run["todos"][0]["attempt"] == 2
    assert git(quick.folder / "r1", "show", "coord/PLAN-001:made-by") == "2"
    assert git(quick.folder / "r1", "rev-list", "--count", "main..coord/PLAN-001") == "1"


def test_promise_4_after_lost_writes_the_epoch_changes_and_the_run_ends_right(quick: Testbed):
    quick.write(
        [
            {"id": "A", "repo": "r1", "action": WAITS_FOR_GO},
            {"id": "B", "repo": "r1", "action": WAITS_FOR_GO, "blocked_by": ["A"]},
        ]
    )
    quick.up()
    quick.ok("sweep", "PLAN-001", "--detach")
    until_ledger(quick, "A 1")
    epoch = int(until(lambda: quick.redis().hget("coord:epoch", "n")))
    as_it_was = quick.folder / "as-it-was"
    quick.redis().client_pause(60_000, all=False)  # a copy between two writes
    shutil.copytree(quick.state / "appendonlydir", as_it_was)
    quick.redis().client_unpause()
    go(quick, "A")
    until_ledger(quick, "B 1")
    began_ms = quick.redis().zscore("coord:live", quick.run()["run_id"])
    # Redis tells its own age in whole seconds.
    until(lambda: quick.redis().time()[0] * 1000 > began_ms + 2000)

    quick.kill("server")  # and what was written since the copy is gone, as after a power loss
    shutil.rmtree(quick.state / "appendonlydir")
    shutil.copytree(as_it_was, quick.state / "appendonlydir")
    quick.up()
    # B of the lost time was stopped; A and B are done again.
    until(lambda: quick.ledger.count("B 1") == 2)
    go(quick, "B")
    quick.ok("watch", "last")

    run = quick.run()
    assert run["counts"] == {"succeeded": 2}
    assert quick.ledger == ["A 1", "B 1", "A 2", "B 1"]
    assert int(quick.redis().hget("coord:epoch", "n") or 0) > epoch
    assert events(quick, "redis.restarted")
    # A's commits of the lost time do not exist: one commit each.
    assert git(quick.folder / "r1", "rev-list", "--count", "main..coord/PLAN-001") == "2"


def test_a_worker_told_once_lets_its_todo_finish_and_told_twice_hands_it_back(quick: Testbed):
    quick.settings = {"lease_ttl": "60s"}  # long: what comes back sooner was handed back
    quick.write(
        [{"id": "A", "repo": "r1", "action": WAITS_FOR_GO}, {"id": "B", "repo": "r1", "blocked_by": ["A"]}]
    )
    quick.up()
    second_worker(quick)
    quick.ok("sweep", "PLAN-001", "--detach")
    until_ledger(quick, "A 1")

    first = worker_pid(quick, "A")
    os.kill(first, signal.SIGTERM)
    until(lambda: "stopping" in worker_log(quick, first))
    assert quick.todo("A")["state"] == "running"
    os.kill(first, signal.SIGTERM)
    until_ledger(quick, "A 2")
    second = worker_pid(quick, "A")
    os.kill(second, signal.SIGTERM)
    until(lambda: "stopping" in worker_log(quick, second))
    go(quick, "A")
    until(lambda: quick.todo("A")["state"] == "succeeded")

    assert first != second
    until(lambda: not Path(f"/proc/{second}").exists() or _is_zombie(second))
    quick.up()
    quick.ok("watch", "last")
    assert quick.ledger == ["A 1", "A 2"]


def worker_log(testbed: Testbed, pid: int) -> str:
    ours = [process.err for process in testbed.started if process.pid == pid]
    return ours[0] if ours else (testbed.state / "worker.log").read_text()


def _is_zombie(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return state.startswith("Z") or not state


KILLS_ITS_WORKER = (
    'echo "$COORD_TODO_ID $COORD_ATTEMPT" >> "$LEDGER"; echo on my way; kill -9 "$(ps -o ppid= -p "$PPID")";'
    " exec sleep 60"
)


def test_a_todo_that_kills_its_worker_stops_after_three_and_is_called_poison(testbed: Testbed):
    testbed.settings = {"lease_ttl": "15s", "heartbeat": "500ms", "retry_attempts": 5}
    testbed.write(
        [
            {"id": "A", "repo": "r1", "action": KILLS_ITS_WORKER},
            {"id": "B", "repo": "r1", "blocked_by": ["A"], "action": "true"},
        ],
        repos=["r1", "r2"],
    )
    testbed.env = {"COORD_REDIS_URL": testbed.server.start()}
    *workers, bystander = (testbed.begin("worker", "--repo", repo) for repo in ("r1", "r1", "r1", "r2"))
    for begun in (*workers, bystander):
        begun.says("serving")
    testbed.ok("sweep", PLAN, "--detach")
    watched = testbed.coord("watch", "last")
    run = testbed.run()

    assert watched.code == 3
    assert bystander.poll() is None
    assert testbed.ledger == ["A 1", "A 2", "A 3"]
    assert [begun.poll() for begun in workers] == [-9, -9, -9]
    assert {todo["id"]: todo["state"] for todo in run["todos"]} == {"A": "failed", "B": "skipped"}
    error = testbed.todo("A")["error"]
    assert error.startswith("poison: its worker was lost 3 times, last coord-")
    assert f"coord logs {run['run_id']} A" in error
    assert "poison" in watched.out + watched.err
    # The last words may die with the worker that was to write them.
    assert b"on my way" in testbed.log_of(run["run_id"], "A")
    counters = testbed.redis().hgetall("coord:counters")
    assert (counters["todos_poisoned"], counters["leases_lost"]) == ("1", "3")
