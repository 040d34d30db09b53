"""Story: a todo kills each worker that takes it up. It stops after three, and people are told by a word that
they know.
"""

from __future__ import annotations

from tests.testbed import PLAN, Testbed

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
