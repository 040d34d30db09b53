"""Steps of a rollback: what was begun is undone once, in reverse order, in one direction."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordination.models import OnFailure, Strategy
from coordination.runs.records import Result, TodoState
from tests.contracts.carrier import BAD, LEASE, OK, Harness
from tests.plans import ecosystem, graph, order

DIAMOND = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["A"]), "D": ("r1", ["B", "C"])}
STRATEGIES = pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])


def sweep(run: Harness, todos=DIAMOND, strategy: Strategy = Strategy.DATAFLOW, **more) -> Harness:
    how = order(strategy=strategy, on_failure=OnFailure.ROLLBACK, max_parallel=more.pop("max_parallel", None))
    run.submit(graph(todos, **more), ecosystem(todos, **more), how)
    return run


def roll_back(run: Harness) -> str:
    return run.follow(run.store.rollback(run.run_id, "lena", "asked by lena")).word


def undone(run: Harness, result=lambda _: OK) -> list[str]:
    """Carries out the compensations; returns the todos in the order in which they were undone."""
    before = len(run.mail)
    started = run.drain(result)
    assert before or not started
    return started


@STRATEGIES
def test_a_failure_stops_what_runs_and_then_undoes_all_that_began_in_reverse_order(
    run: Harness, strategy: Strategy
):
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
def test_a_finished_run_is_undone_in_reverse_order(run: Harness, strategy: Strategy):
    sweep(run, strategy=strategy).drain()
    assert run.view().status == "succeeded"

    assert roll_back(run) == "rolling_back"
    order_ = undone(run)

    assert order_[0] == "D"
    assert sorted(order_[1:3]) == ["B", "C"]
    assert order_[3] == "A"
    assert run.view().status == "rolled_back"


def test_asked_twice_it_changes_nothing_and_says_so(run: Harness):
    sweep(run).drain()
    roll_back(run)
    assert roll_back(run) == "already"
    undone(run)
    assert roll_back(run) == "done"
    assert run.view().status == "rolled_back"
    assert not run.mail


def test_the_last_of_a_repository_is_told_that_it_is(run: Harness):
    sweep(run, {"A": "r1", "B": ("r1", ["A"]), "C": ("r2", ["B"])}).drain()
    roll_back(run)
    told = {}
    while run.mail:
        grant = run.next()
        assert grant is not None
        assert grant.undo is not None
        assert grant.undo.had_ended
        told[grant.todo_id] = grant.undo.last
        run.settle(grant)
    assert told == {"C": True, "B": False, "A": True}


def test_a_compensation_that_fails_for_good_shows_and_holds_back_what_stands_before_it(run: Harness):
    sweep(run).drain()
    roll_back(run)
    order_ = undone(run, lambda grant: BAD if grant.todo_id == "B" else OK)

    assert order_ == ["D", "B", "C"] or order_ == ["D", "C", "B"]
    assert run.states() == {
        "A": "succeeded",
        "B": "compensation_failed",
        "C": "compensated",
        "D": "compensated",
    }
    assert run.view().status == "rollback_failed"

    assert roll_back(run) == "rolling_back"
    assert undone(run) == ["B", "A"]
    assert run.view().status == "rolled_back"


def test_a_failed_compensation_that_a_person_answers_for_lets_the_others_follow(run: Harness):
    sweep(run).drain()
    roll_back(run)
    undone(run, lambda grant: BAD if grant.todo_id == "B" else OK)

    assert run.follow(run.store.accept(run.run_id, "A", "lena", "why not")).word == "idle"
    assert run.follow(run.store.accept(run.run_id, "B", "lena", "done by hand")).word == "accepted"
    assert run.follow(run.store.accept(run.run_id, "B", "lena", "done by hand")).word == "idle"
    assert undone(run) == ["A"]
    assert run.view().status == "rolled_back"


def test_a_compensation_is_leased_fenced_retried_and_taken_up_again_like_a_todo(run: Harness):
    sweep(run, {"A": "r1"}).drain()
    roll_back(run)
    first = run.take("A")
    run.store.redis.zadd(run.store.keys.leases, {f"{run.run_id} A": 1})
    assert run.follow(run.store.lose(run.run_id, "A", 3)).word == "requeued"
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


def test_a_run_that_goes_on_is_stopped_and_undone_and_one_that_is_paused_too(run: Harness):
    sweep(run)
    run.settle(run.take("A"))
    grant = run.take("B")
    run.follow(run.store.pause(run.run_id, "lena"))

    assert roll_back(run) == "rolling_back"
    assert run.store.cancel(run.run_id, "x").word == "ended"
    assert run.store.pause(run.run_id, "x").word == "rolling_back"
    assert run.store.resume(run.run_id, "x").word == "rolling_back"
    run.store.redis.zadd(run.store.keys.leases, {f"{run.run_id} B": 1})
    run.follow(run.store.lose(run.run_id, "B", 3))
    assert run.settle(grant) == "stale"

    run.mail = type(run.mail)(d for d in run.mail if d.attempt > 1)
    assert undone(run) == ["B", "A"]
    assert run.view().status == "rolled_back"


def test_a_run_that_has_begun_nothing_is_rolled_back_at_once(run: Harness):
    sweep(run)
    assert roll_back(run) == "rolling_back"
    assert run.view().status == "rolled_back"
    assert set(run.states().values()) == {"cancelled"}


def test_what_was_offered_or_queued_of_the_run_is_no_obstacle_to_undoing(run: Harness):
    sweep(run, {"A": "r1", "B": "r1", "C": "r1", "D": "r2"}, max_parallel=1)
    first = run.next()
    assert first is not None
    run.settle(first)
    second = run.next()
    assert second is not None
    run.settle(second, BAD)
    assert sorted(undone(run)) == sorted([first.todo_id, second.todo_id])
    assert run.view().status == "rolled_back"


def test_what_a_person_did_is_passed_over_by_a_rollback_unless_it_says_what_undoes_it(run: Harness):
    manual = {"type": "manual"}
    todos = {"A": "r1", "M": ("r2", ["A"]), "N": ("r2", ["M"]), "B": ("r1", ["N"])}
    sweep(run, todos, M={"action": manual}, N={"action": manual, "compensate": "true"})
    run.settle(run.take("A"))
    for todo in "MN":
        run.follow(run.store.complete(run.run_id, todo, "lena"))
    run.settle(run.take("B"), BAD)

    assert undone(run) == ["B", "N", "A"]
    assert run.states() == dict.fromkeys("AMNB", "compensated")
    assert run.view().status == "rolled_back"
    assert next(todo for todo in run.view().todos if todo.id == "M").was == "succeeded"
