"""Steps of a rollback: what has begun is undone once, in reverse order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordination.models import OnFailure, Strategy
from coordination.runs.records import Result, TodoState
from tests.contracts.run_harness import BAD, LEASE, OK, Harness

DIAMOND = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["A"]), "D": ("r1", ["B", "C"])}
STRATEGIES = pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])


def sweep(run: Harness, todos=DIAMOND, strategy: Strategy = Strategy.DATAFLOW, **more) -> Harness:
    return run.begin(todos, strategy=strategy, on_failure=OnFailure.ROLLBACK, more=more)


@STRATEGIES
def test_a_failure_stops_the_run_and_undoes_it_in_reverse_order(run: Harness, strategy: Strategy):
    sweep(run, strategy=strategy)
    run.settle(run.take("A"), Result(outcome=TodoState.SUCCEEDED, output='{"id": 7}'))
    other = run.take("B")
    run.settle(run.take("C"), BAD)

    assert run.view().status == "rolling_back"
    assert run.store.renew({f"{run.run_id} B": other.fence}, LEASE)[1] == [f"{run.run_id} B"]
    assert not run.mail  # nothing is undone while something runs
    run.settle(other, Result(outcome=TodoState.CANCELLED))

    grants = []
    while run.mail:
        grant = run.next()
        assert grant is not None
        grants.append(grant)
        run.settle(grant)
    assert [g.todo_id for g in grants][-1] == "A"
    assert sorted(g.todo_id for g in grants) == ["A", "B", "C"]
    assert {g.todo_id: g.undo.was for g in grants if g.undo} == {
        "A": "succeeded",
        "B": "cancelled",
        "C": "failed",
    }
    assert grants[-1].undo is not None
    assert grants[-1].undo.output == '{"id": 7}'
    assert not grants[-1].undo.had_ended
    assert run.states() == {"A": "compensated", "B": "compensated", "C": "compensated", "D": "skipped"}
    assert run.view().status == "rolled_back"
    assert run.store.live_runs() == []


@STRATEGIES
def test_a_finished_run_is_undone_once_in_reverse_order(run: Harness, strategy: Strategy):
    sweep(run, {"A": "r1", "B": ("r1", ["A"]), "C": ("r2", ["B"])}, strategy).drain()
    assert run.view().status == "succeeded"
    assert run.roll_back() == "rolling_back"
    assert run.roll_back() == "already"
    told = {}
    while run.mail:
        grant = run.next()
        assert grant is not None
        assert grant.undo is not None
        assert grant.undo.had_ended
        told[grant.todo_id] = grant.undo.last
        run.settle(grant)
    assert list(told.items()) == [("C", True), ("B", False), ("A", True)]
    assert run.roll_back() == "done"
    assert run.view().status == "rolled_back"
    assert not run.mail


@pytest.mark.parametrize("then", ["rolled back again", "accepted"])
def test_a_failed_compensation_holds_back_its_predecessors(run: Harness, then: str):
    sweep(run).drain()
    run.roll_back()
    undone = run.drain(lambda grant: BAD if grant.todo_id == "B" else OK)

    assert undone in (["D", "B", "C"], ["D", "C", "B"])
    assert run.states() == {
        "A": "succeeded",
        "B": "compensation_failed",
        "C": "compensated",
        "D": "compensated",
    }
    assert run.view().status == "rollback_failed"

    if then == "accepted":
        accept = [run.follow(run.store.accept(run.run_id, todo, "lena", "by hand")).word for todo in "ABB"]
        assert accept == ["idle", "accepted", "idle"]
    else:
        assert run.roll_back() == "rolling_back"
    assert run.drain() == (["A"] if then == "accepted" else ["B", "A"])
    assert run.view().status == "rolled_back"


def test_a_compensation_is_leased_fenced_retried_and_taken_up_again_like_a_todo(run: Harness):
    sweep(run, {"A": "r1"}).drain()
    run.roll_back()
    first = run.take("A")
    assert run.lose("A") == "requeued"
    second = run.take("A")
    assert run.settle(first) == "stale"
    assert second.undo == first.undo
    run.follow(run.store.retry(second, timedelta(milliseconds=1), BAD))
    run.follow(run.store.fire(run.run_id, "A"))
    third = run.take("A")
    assert third.tries == 1
    run.settle(third)
    assert run.settle(third) == "again"
    assert run.view().status == "rolled_back"


def test_a_paused_run_with_a_running_todo_is_stopped_and_undone(run: Harness):
    sweep(run)
    run.settle(run.take("A"))
    grant = run.take("B")
    run.follow(run.store.pause(run.run_id, "lena"))

    assert run.roll_back() == "rolling_back"
    assert run.store.cancel(run.run_id, "x").word == "ended"
    assert run.store.pause(run.run_id, "x").word == "rolling_back"
    assert run.store.resume(run.run_id, "x").word == "rolling_back"
    run.lose("B")
    assert run.settle(grant) == "stale"

    run.mail = type(run.mail)(d for d in run.mail if d.attempt > 1)
    assert run.drain() == ["B", "A"]
    assert run.view().status == "rolled_back"


def test_manual_todos_without_a_compensation_are_passed_over(run: Harness):
    manual = {"type": "manual"}
    todos = {"A": "r1", "M": ("r2", ["A"]), "N": ("r2", ["M"]), "B": ("r1", ["N"])}
    sweep(run, todos, M={"action": manual}, N={"action": manual, "compensate": "true"})
    run.settle(run.take("A"))
    for todo in "MN":
        run.follow(run.store.complete(run.run_id, todo, "lena"))
    run.settle(run.take("B"), BAD)

    assert run.drain() == ["B", "N", "A"]
    assert run.states() == dict.fromkeys("AMNB", "compensated")
    assert run.view().status == "rolled_back"
    assert run.todo("M").was == "succeeded"
