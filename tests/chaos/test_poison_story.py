"""Story: a todo kills each worker that takes it up. It stops after three, and people are told by a word that
they know.
"""

from __future__ import annotations

from tests.stage import PLAN, Stage

KILLS_ITS_WORKER = (
    'echo "$COORD_TODO_ID $COORD_ATTEMPT" >> "$LEDGER"; echo on my way; kill -9 "$(ps -o ppid= -p "$PPID")";'
    " exec sleep 60"
)


def test_a_todo_that_kills_its_worker_stops_after_three_and_is_called_poison(stage: Stage):
    stage.settings = {"lease_ttl": "15s", "heartbeat": "500ms", "retry_attempts": 5}
    stage.write(
        [
            {"id": "A", "repo": "r1", "action": KILLS_ITS_WORKER},
            {"id": "B", "repo": "r1", "blocked_by": ["A"], "action": "true"},
        ],
        repos=["r1", "r2"],
    )
    stage.env = {"COORD_REDIS_URL": stage.server.start()}
    *workers, bystander = (stage.begin("worker", "--repo", repo) for repo in ("r1", "r1", "r1", "r2"))
    for begun in (*workers, bystander):
        begun.says("serving")
    stage.ok("sweep", PLAN, "--detach")
    watched = stage.coord("watch", "last")
    run = stage.run()

    assert watched.code == 3
    assert bystander.poll() is None
    assert stage.ledger == ["A 1", "A 2", "A 3"]
    assert [begun.poll() for begun in workers] == [-9, -9, -9]
    assert {todo["id"]: todo["state"] for todo in run["todos"]} == {"A": "failed", "B": "skipped"}
    error = stage.todo("A")["error"]
    assert error.startswith("poison: its worker was lost 3 times, last coord-")
    assert f"coord logs {run['run_id']} A" in error
    assert "poison" in watched.out + watched.err
    # The last words may die with the worker that was to write them.
    assert b"on my way" in stage.log_of(run["run_id"], "A")
    counters = stage.redis().hgetall("coord:counters")
    assert (counters["todos_poisoned"], counters["leases_lost"]) == ("1", "3")
