"""Somebody writes rubbish into coord's keys while it works: nothing of it is run, nothing of coord ends, and
people are told.
"""

from __future__ import annotations

import random

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from tests.chaos.hostile import RUBBISH, Hostile
from tests.chaos.workers import Watch, begin, straight
from tests.testbed import PLAN, Testbed
from tests.waiting import until

KEYS = Keys("coord")
WRITES = 100
TODOS = [
    {"id": f"T{n}", "repo": f"r{n % 2}", "action": 'echo "$COORD_TODO_ID" >> "$LEDGER"',
        "blocked_by": [f"T{n - 2}"] * (n > 1)}
    for n in range(8)
]  # fmt: skip


@pytest.fixture
def served(testbed: Testbed) -> Testbed:
    testbed.settings = {"lease_ttl": "10s", "heartbeat": "500ms"}
    testbed.write(TODOS)
    testbed.up()
    return testbed


def hostile_client(testbed: Testbed) -> redis.Redis:
    return connect(str(testbed.server.url), Profile.COMMAND, decode=False)


@pytest.mark.parametrize("seed", [7])  # `make chaos ONLY=hostile` takes others
def test_whatever_is_written_into_its_keys_nothing_ends_and_only_what_was_ordered_runs(
    served: Testbed, seed: int
) -> None:
    url, worker = str(served.server.url), served.daemon("worker").pid
    hostile = Hostile(hostile_client(served), random.Random(seed))
    run = begin(served, url)

    for _ in range(WRITES):
        hostile.write()
    said = [served.coord(*words) for words in (("list-runs",), ("show-run", run), ("doctor",))]

    assert served.daemon("worker").pid == worker
    assert not [done.err for done in said if "Traceback" in done.err], f"seed {seed}"
    assert set(served.ledger) <= {todo["id"] for todo in TODOS}
    served.redis().flushall()  # damaged data is gone, and a new run succeeds
    again = begin(served, url)
    watch = Watch(served, straight(served))
    until(lambda: watch.over(again))
    assert watch.status(again) == "succeeded", f"seed {seed}"


def test_keys_of_another_type_are_set_apart_and_live_runs_go_on(served: Testbed) -> None:
    url, client = str(served.server.url), hostile_client(served)
    keys = (
        KEYS.live,
        KEYS.leases,
        KEYS.timers,
        KEYS.workers,
        KEYS.served,
        KEYS.cleanup_jobs,
        KEYS.locks.names,
    )
    for key in keys:
        client.delete(key)
        client.set(key, RUBBISH[1])

    until(lambda: all(client.type(key) != b"string" for key in keys))
    run = begin(served, url)
    watch = Watch(served, straight(served))
    until(lambda: watch.over(run))

    assert watch.status(run) == "succeeded"
    told = served.coord("doctor", "--json").json["findings"]
    assert any("set aside" in finding["what"] for finding in told)


def test_a_record_that_cannot_be_read_does_not_hide_the_others(served: Testbed) -> None:
    client = hostile_client(served)
    client.zadd(KEYS.workers, {b"\xff\xfe": 2**52, b"other": 2**52})
    client.set(KEYS.worker("other"), b"{")
    client.hset(KEYS.cleanup_jobs, b"\xff", b"not json")
    client.zadd(KEYS.live, {b"\xff\xfe": 1, b"no-run": 1})
    client.zadd(KEYS.runs, {b"\xff\xfe": 2**52, b"no-run": 2**52})
    client.hset(KEYS.run("no-run").meta, mapping={b"status": b"\xff", b"plan_id": b"x"})

    swept = served.sweep()
    listed = served.ok("list-runs", "--json").json
    cleaned = served.coord("run", "clean", "--yes")

    assert swept.code == 0, swept.err
    assert [one["plan_id"] for one in listed] == [PLAN]
    assert cleaned.code == 0, cleaned.err
