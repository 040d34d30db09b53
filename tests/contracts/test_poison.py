"""A todo whose worker is lost again and again: it stops, and is called what it is. Only real losses count."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordination.runs.records import RunView
from coordination.runs.retrying.ended import read, restorable
from coordination.runs.retrying.retry_plan import plan_retry_of, submit_retry
from coordination.settings import Settings
from tests.contracts.carrier import BAD, LEASE, OK, Harness
from tests.plans import ecosystem, graph, order

CAP = 3


def swept(run: Harness, **how) -> Harness:
    todos = {"A": "r1", "B": ("r2", ["A"])}
    run.submit(graph(todos), ecosystem(todos), order(**how))
    return run


def lose(run: Harness, todo: str) -> str:
    """Its worker is gone, and its lease over."""
    run.take(todo)
    run.store.redis.zadd(run.store.keys.leases, {f"{run.run_id} {todo}": 1})
    return run.follow(run.store.lose(run.run_id, todo, CAP)).word


def events(run: Harness, what: str) -> list[dict[str, str]]:
    found = run.store.redis.xrange(run.store.keys.run(run.run_id).events)
    return [fields for _, fields in found if fields["what"] == what]


def counted(run: Harness, what: str) -> int:
    return int(run.store.redis.hget(run.store.keys.counters, what) or 0)


def error(view: RunView, todo: str) -> str:
    return next(t.error for t in view.todos if t.id == todo) or ""


def test_a_todo_that_loses_its_worker_too_often_stops_and_is_reported_as_poison(run: Harness):
    swept(run)
    assert [lose(run, "A") for _ in range(CAP)] == ["requeued", "requeued", "settled"]

    view = run.view()
    assert (view.status, run.states()) == ("failed", {"A": "failed", "B": "skipped"})
    assert error(view, "A").startswith("poison: its worker was lost 3 times, last w; look at ")
    assert f"coord logs {run.run_id} A" in error(view, "A")
    assert [(e["todo"], e["worker"], e["lost"]) for e in events(run, "todo.poison")] == [("A", "w", "3")]
    assert (counted(run, "todos_poisoned"), counted(run, "leases_lost")) == (1, 3)


def test_losses_and_failures_of_its_own_are_counted_apart(run: Harness):
    swept(run)
    lose(run, "A")
    run.follow(run.store.retry(run.take("A"), timedelta(0), BAD))
    lose(run, "A")

    grant = run.take("A")
    assert (grant.tries, grant.attempt) == (1, 4)
    run.settle(grant, OK)
    run.drain()
    assert run.view().status == "succeeded"
    assert counted(run, "todos_poisoned") == 0


def test_a_worker_that_only_hands_back_poisons_nothing(run: Harness):
    swept(run)
    for _ in range(2 * CAP):
        run.follow(run.store.hand_back(run.take("A")))

    assert run.states()["A"] == "dispatched"
    assert counted(run, "leases_lost") == 0


def test_a_poisoned_todo_is_tried_again_when_a_person_wants_it(run: Harness):
    swept(run)
    for _ in range(CAP):
        lose(run, "A")
    old = read(run.store, run.run_id)
    left = plan_retry_of(old, None, Settings(), without=(), carried=restorable(run.store, old))
    run.run_id, reply = submit_retry(run.store, left, Settings(), on_failure=None, max_parallel=None)
    run.follow(reply)

    assert lose(run, "A") == "requeued"  # it counts from the beginning
    assert run.drain() == ["A", "B"]
    assert run.view().status == "succeeded"


def test_what_undoes_a_todo_and_kills_its_workers_is_poison_as_well(run: Harness):
    swept(run)
    run.settle(run.take("A"))
    run.settle(run.take("B"))
    run.follow(run.store.rollback(run.run_id, "ann", "tried"))
    run.settle(run.take("B"))
    for _ in range(CAP):
        lose(run, "A")

    assert run.view().status == "rollback_failed"
    assert run.states() == {"A": "compensation_failed", "B": "compensated"}
    assert error(run.view(), "A").startswith("poison: ")
    assert counted(run, "todos_poisoned") == 1


@pytest.mark.parametrize("word", ["settled", "retrying"])
def test_a_lease_that_was_used_up_in_time_is_no_loss(run: Harness, word: str):
    swept(run)
    grant = run.take("A")
    if word == "settled":
        run.settle(grant)
    else:
        run.follow(run.store.retry(grant, LEASE, BAD))

    assert run.store.lose(run.run_id, "A", CAP).word == "alive"
    assert counted(run, "leases_lost") == 0
