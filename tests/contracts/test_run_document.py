"""A run as one document: whole, of one moment, and the same after it was formatted anew."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coordination.errors import NotFound
from coordination.runs.export.document import document_of
from tests.contracts.carrier import Harness
from tests.plans import ecosystem, graph, order

TODOS = {"A": "r1", "B": ("r1", ["A"]), "C": ("r2", ["B"])}


def document(run: Harness) -> dict[str, Any]:
    found: dict[str, Any] = json.loads("".join(document_of(run.store, run.run_id)))
    return found


def begun(run: Harness) -> None:
    run.submit(graph(TODOS), ecosystem(TODOS), order())
    run.settle(run.take("A"))


def test_every_key_of_the_run_is_in_it_with_all_that_it_holds(run: Harness):
    begun(run)
    redis, keys = run.store.redis, run.store.keys.run(run.run_id)
    redis.xadd(keys.log("A"), {"attempt": 1, "text": "words é\n"})
    redis.hset(keys.bundle("r1"), mapping={"abc": "PACK", "abc since": "def"})
    redis.execute_command("HSET", keys.bundle("r1"), "abc", b"PACK\xff\x00")
    found = document(run)

    there = {key.removeprefix(f"{keys.prefix}:") for key in redis.scan_iter(f"{keys.prefix}:*")}
    assert set(found["keys"]) == there
    assert {f"{keys.prefix}:{name}": next(iter(held)) for name, held in found["keys"].items()} == {
        key: redis.type(key) for key in redis.scan_iter(f"{keys.prefix}:*")
    }
    assert found["keys"]["meta"]["hash"] == redis.hgetall(keys.meta)
    assert found["keys"]["facts"]["hash"] == redis.hgetall(keys.facts)
    assert found["keys"]["events"]["stream"] == dict(redis.xrange(keys.events))
    assert [*found["keys"]["log:A"]["stream"].values()] == [{"attempt": "1", "text": "words é\n"}]
    assert found["keys"]["bundle:r1"]["hash"] == {"abc": {"base64": "UEFDS/8A"}, "abc since": "def"}


def test_what_runs_and_what_waits_for_a_time_is_told(run: Harness):
    begun(run)
    grant = run.take("B")
    assert document(run)["shared"] == {"timers": {}, "holders": {"B": str(grant.fence)}}


def test_of_a_run_that_is_not_there_there_is_none(run: Harness):
    run.run_id = "20200101-000000-abcd"
    with pytest.raises(NotFound, match="there is no run"):
        document(run)
