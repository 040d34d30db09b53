"""Steps of gates and checkpoints: a person is waited for without anything being held; what was written so far
is handed on.
"""

from __future__ import annotations

from datetime import timedelta

from tests.contracts.carrier import Harness
from tests.plans import ecosystem, graph, order

TODOS = {"A": "r1", "B": "r1"}


def gated(run: Harness, gate: str, todo: str = "A", **how) -> Harness:
    run.submit(graph(TODOS), ecosystem(TODOS), order(max_parallel=1, **how))
    keys = run.store.keys.run(run.run_id)
    delivery = next((d for d in run.mail if d.todo_id == todo), None)
    if delivery is not None:
        grant = run.take(todo)
        run.store.redis.hset(keys.facts, f"{todo} gate", gate)
        run.follow(run.store.hand_back(grant))
        run.mail = type(run.mail)(d for d in run.mail if d.todo_id != todo)
    return run


def test_a_gated_todo_waits_for_a_person_and_holds_nothing(run: Harness):
    gated(run, "0 reject")
    assert run.states() == {"A": "parked", "B": "dispatched"}  # one repository, one at a time, and B goes on
    assert run.view().todos[0].waits_for == "an approval: coord approve A"
    assert run.drain() == ["B"]
    assert run.view().status == "running"

    assert run.follow(run.store.approve(run.run_id, "A", "lena", "looks right")).word == "approved"
    assert run.follow(run.store.approve(run.run_id, "A", "lena", "")).word == "idle"
    assert run.follow(run.store.reject(run.run_id, "A", "lena", "")).word == "idle"
    assert run.drain() == ["A"]
    assert run.view().status == "succeeded"


def test_what_a_person_rejects_has_failed(run: Harness):
    gated(run, "0 reject")
    assert run.follow(run.store.reject(run.run_id, "A", "lena", "not before Friday")).word == "settled"
    assert run.view().todos[0].error == "rejected by lena: not before Friday"
    assert run.follow(run.store.approve(run.run_id, "A", "lena", "")).word == "idle"


def test_when_nobody_comes_in_time_the_gates_policy_decides(run: Harness):
    gated(run, "1 approve")
    assert run.follow(run.store.fire(run.run_id, "A")).word == "settled"
    run.drain()
    assert run.states() == {"A": "succeeded", "B": "succeeded"}

    other = gated(Harness(run.store), "1 reject")
    other.follow(other.store.fire(other.run_id, "A"))
    assert other.states()["A"] == "failed"


def test_what_an_attempt_has_written_so_far_is_there_for_the_next_one(run: Harness):
    run.submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())
    first = run.take("A")
    assert first.checkpoint == ""
    assert run.store.checkpoint(first, '{"page": 3}').word == "kept"
    run.store.redis.zadd(run.store.keys.leases, {f"{run.run_id} A": 1})
    run.follow(run.store.lose(run.run_id, "A", 3))
    assert run.store.checkpoint(first, '{"page": 4}').word == "stale"

    second = run.take("A")
    assert second.checkpoint == '{"page": 3}'
    run.follow(run.store.park(second, "x", timedelta(seconds=1)))
