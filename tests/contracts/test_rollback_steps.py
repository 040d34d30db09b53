"""Rollbacks: the steps undo what has begun, once and in reverse order; views, followers and refusals."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from redis import Redis

from coordination.backend.client import Profile, connect
from coordination.backend.steps.run import Undo
from coordination.errors import Conflict
from coordination.models import OnFailure, Strategy
from coordination.planner.graph import build
from coordination.runs.control.steering import refuse_built_on
from coordination.runs.records import Result, TodoState
from coordination.runs.retrying.ended import read, refuse_again
from coordination.runs.views.run_events import ENDED, RunEvent, follow
from tests.contracts.test_retry_steps import retry
from tests.engine import BAD, LEASE, Engine
from tests.plans import PLAN, ecosystem, order

DIAMOND = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["A"]), "D": ("r1", ["B", "C"])}
STRATEGIES = pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])


def undo(run: Engine) -> dict[str, Undo]:
    """Execute the compensations that are delivered; return todo → its claim, in their order."""
    undone = {}
    while run.mail:
        grant = run.next()
        assert grant is not None
        assert grant.undo is not None
        undone[grant.todo_id] = grant.undo
        run.settle(grant)
    return undone


def begin(run: Engine, todos=DIAMOND, strategy: Strategy = Strategy.DATAFLOW, **more) -> Engine:
    return run.begin(todos, strategy=strategy, on_failure=OnFailure.ROLLBACK, more=more)


@STRATEGIES
def test_a_failure_stops_the_run_and_undoes_it_in_reverse_order(run: Engine, strategy: Strategy):
    begin(run, strategy=strategy)
    run.settle(run.take("A"), Result(outcome=TodoState.SUCCEEDED, output='{"id": 7}'))
    other = run.take("B")
    run.settle(run.take("C"), BAD)

    assert run.view().status == "rolling_back"
    assert run.store.renew({f"{run.run_id} B": other.fence}, LEASE)[1] == [f"{run.run_id} B"]
    assert not run.mail  # nothing is undone while something runs
    run.settle(other, Result(outcome=TodoState.CANCELLED))

    undone = undo(run)
    assert {todo: undo.was for todo, undo in undone.items()} == {
        "A": "succeeded", "B": "cancelled", "C": "failed"
    }  # fmt: skip
    assert list(undone)[-1] == "A"
    assert (undone["A"].output, undone["A"].had_ended) == ('{"id": 7}', False)
    assert run.states() == {"A": "compensated", "B": "compensated", "C": "compensated", "D": "skipped"}
    assert run.view().status == "rolled_back"
    assert run.store.live_runs() == []


@pytest.mark.parametrize("on_failure", [OnFailure.HALT, OnFailure.ROLLBACK])
def test_a_run_whose_time_is_up_is_undone_if_its_failures_are_and_else_cancelled(
    run: Engine, on_failure: OnFailure
):
    file = ecosystem(DIAMOND)
    run.submit(build(file, PLAN), file, replace(order(on_failure=on_failure), timeout=timedelta(hours=1)))
    run.settle(run.take("A"))
    running = run.take("B")
    assert run.store.due(run.now_ms()) == []
    run.store.redis.zadd(run.store.keys.timers, {f"{run.run_id} ": 1}, xx=True)
    run.tick()

    assert run.store.renew({f"{run.run_id} B": running.fence}, LEASE)[1] == [f"{run.run_id} B"]
    run.mail.clear()  # the message for C, which is refused now
    run.settle(running, Result(outcome=TodoState.CANCELLED))
    undone = on_failure is OnFailure.ROLLBACK
    assert list(undo(run)) == (["B", "A"] if undone else [])
    view = run.view()
    assert (view.status, view.timed_out) == (
        "rolled_back" if undone else "cancelled",
        "timed out after 3600 s",
    )
    assert (view.rollback, view.steered_by) == ((view.timed_out, None) if undone else (None, "its timeout"))
    assert run.todo("D").error == view.timed_out


def test_a_compensation_is_leased_fenced_retried_and_taken_up_again_like_a_todo(run: Engine):
    begin(run, {"A": "r1"}).drain()
    run.roll_back()
    first = run.take("A")
    assert run.lose("A") == "requeued"
    second = run.take("A")
    assert run.settle(first) == "stale"
    assert second.undo == first.undo
    run.retry(second, timedelta(milliseconds=1), BAD)
    run.fire("A")
    third = run.take("A")
    assert third.tries == 1
    run.settle(third)
    assert run.settle(third) == "again"
    assert run.view().status == "rolled_back"


def test_a_paused_run_with_a_running_todo_is_stopped_and_undone(run: Engine):
    begin(run)
    run.settle(run.take("A"))
    grant = run.take("B")
    run.pause("lena")

    assert run.roll_back() == "rolling_back"
    assert run.cancel("x").word == "ended"
    assert run.pause("x").word == "rolling_back"
    assert run.resume("x").word == "rolling_back"
    run.lose("B")
    assert run.settle(grant) == "stale"

    run.mail = type(run.mail)(d for d in run.mail if d.attempt > 1)
    assert run.drain() == ["B", "A"]
    assert run.view().status == "rolled_back"


def test_manual_todos_without_a_compensation_are_passed_over(run: Engine):
    manual = {"type": "manual"}
    todos = {"A": "r1", "M": ("r2", ["A"]), "N": ("r2", ["M"]), "B": ("r1", ["N"])}
    begin(run, todos, M={"action": manual}, N={"action": manual, "compensate": "true"})
    run.settle(run.take("A"))
    for todo in "MN":
        run.complete(todo, "lena")
    run.settle(run.take("B"), BAD)

    assert run.drain() == ["B", "N", "A"]
    assert run.states() == dict.fromkeys("AMNB", "compensated")
    assert run.view().status == "rolled_back"
    assert run.todo("M").was == "succeeded"


CHAIN = {"A": "r1", "B": ("r2", ["A"]), "C": ("r1", ["B"])}


def done(grant, failing: str = "") -> Result:
    if grant.todo_id == failing:
        return BAD
    return Result(outcome=TodoState.SUCCEEDED, exit_code=0, tip=f"{grant.todo_id}-1", began="0")


def swept(run: Engine, failing: str = "", **more) -> Engine:
    run.begin(CHAIN, more=more).drain(lambda grant: done(grant, failing))
    return run


def rolled_back(run: Engine, failing: str = "") -> Engine:
    swept(run, failing).roll_back()
    return run


def stuck(run: Engine) -> Engine:
    """B could not be undone, so A was not."""
    rolled_back(run).drain(lambda grant: done(grant, "B"))
    return run


def retried(run: Engine) -> str:
    """Retry the run; the engine goes on with the retry."""
    retry(run)
    return run.run_id


def at(run: Engine, **times: int) -> None:
    """As if the todos had come to something then: `A_started_at=…` in ms."""
    names = {name.replace("_", " ", 1): value for name, value in times.items()}
    run.store.redis.hset(run.store.keys.run(run.run_id).facts, mapping=names)


def test_a_todo_that_is_being_undone_is_shown_as_compensating(run: Engine):
    rolled_back(run)
    assert run.states() == {"A": "succeeded", "B": "succeeded", "C": "compensating"}
    grant = run.take("C")
    assert run.view().counts == {"succeeded": 2, "compensating": 1}

    run.retry(grant, timedelta(seconds=9), BAD)
    shown = run.todo("C")
    assert (shown.state, shown.was, shown.waits_for, shown.error) == (
        "compensating", "succeeded", "another try", "exit code 1",
    )  # fmt: skip


def test_the_outcome_of_a_todo_and_of_its_compensation_are_told_apart(run: Engine):
    rolled_back(run, "C")
    at(run, B_started_at=1000, B_finished_at=3500)
    run.drain(lambda grant: done(grant, "B"))
    at(run, B_undo_started_at=9000, B_undo_finished_at=9200)

    view = run.view()
    failed, stands, undone = run.todo("B"), run.todo("A"), run.todo("C")
    assert (failed.state, failed.was, failed.error) == ("compensation_failed", "succeeded", "exit code 1")
    assert (failed.duration_s, failed.undo_s) == (2.5, 0.2)
    assert (stands.state, stands.was) == ("succeeded", None)
    assert (undone.state, undone.was, undone.exit_code) == ("compensated", "failed", 1)
    assert view.counts == {"succeeded": 1, "compensated": 1, "compensation_failed": 1}
    assert (view.status, view.steered_by, view.rollback) == ("rollback_failed", "lena", "lena asked for it")


def test_the_bound_of_a_run_counts_neither_compensations_nor_the_time_before_its_rollback(run: Engine):
    swept(run)
    meta = run.store.keys.run(run.run_id).meta
    ended = int(run.store.redis.hget(meta, "finished_at"))
    run.store.redis.hset(meta, mapping={"started_at": ended - 90_000 - 3_000, "finished_at": ended - 90_000})
    at(
        run,
        **{f"{todo}_{what}": ms for todo in "ABC" for what, ms in (("started_at", 0), ("finished_at", 1000))},
    )

    run.roll_back()
    run.drain()
    at(run, A_undo_started_at=0, A_undo_finished_at=50_000)

    assert run.view().bound_s == 3.0
    assert 3.0 <= run.view().duration_s < 60


def told(reader: Redis, run: Engine, since: str = "0") -> list[str]:
    """The events that a follower gets until the run has ended, as soon as all are there."""
    events = follow(reader, run.store.keys, run.run_id, since=since, tick_s=0.01)
    return [
        event.fields.get("status", event.what) for event in events if event and event.what.startswith("run.")
    ]


@pytest.fixture
def blocking(redis_url: str):
    with connect(redis_url, Profile.READER) as made:
        yield made


def test_a_follower_of_a_run_that_was_opened_again_is_told_of_both_ends(run: Engine, blocking: Redis):
    stuck(run)
    assert told(blocking, run) == ["run.started", "succeeded", "run.rolling_back", "rollback_failed"]
    run.accept("B", "lena", "done by hand")
    run.drain()

    assert told(blocking, run)[-2:] == ["run.rolling_back", "rolled_back"]


def test_a_run_is_followed_beyond_an_end_that_it_has_left(run: Engine, blocking: Redis):
    swept(run)
    events = follow(blocking, run.store.keys, run.run_id, tick_s=0.01)
    for event in events:
        if event and event.what == ENDED:
            break
        if event and event.what == "todo.succeeded" and event.todo == "C":
            run.roll_back()  # after its end was read, before it is told

    assert next(e for e in events if e).what == "run.rolling_back"
    run.drain()
    assert [e.fields["status"] for e in events if e and e.what == ENDED] == ["rolled_back"]


def test_a_follower_that_knows_of_the_end_waits_for_nothing(run: Engine, blocking: Redis):
    swept(run)
    last = [e for e in follow(blocking, run.store.keys, run.run_id) if isinstance(e, RunEvent)][-1]

    assert told(blocking, run, last.id) == []


def test_a_retry_is_undone_with_the_run_that_it_builds_on(run: Engine):
    first = swept(run, "B").run_id
    second = retried(run)
    run.drain(done)
    with pytest.raises(Conflict, match=f"run {second} builds on run {first}") as refused:
        refuse_built_on(run.store, first)
    assert f"coord rollback {second}" in refused.value.hint

    run.roll_back()
    assert {todo: undo.run for todo, undo in undo(run).items()} == {"C": second, "B": second, "A": first}
    assert set(run.states().values()) == {"compensated"}
    refuse_built_on(run.store, first)
    with pytest.raises(Conflict, match=f"run {second} was rolled back"):
        read(run.store, second)
    with pytest.raises(
        Conflict, match=f"retry already, run {second}, which was rolled back together with this run"
    ) as refused:
        read(run.store, first)
    assert refused.value.hint == "start a new run: coord sweep PLAN-001"


def test_a_todo_is_undone_in_the_name_of_the_run_that_began_it(run: Engine):
    first = swept(run, "B").run_id
    retried(run)
    run.mail.clear()

    run.roll_back()
    grant = run.take("B")

    assert grant.undo is not None
    assert (grant.undo.run, grant.undo.was) == (first, "cancelled")


def test_what_is_rolled_back_is_not_retried(run: Engine):
    swept(run, "B")
    before = read(run.store, run.run_id)
    run.roll_back()
    with pytest.raises(Conflict, match="is rolling_back") as going:
        refuse_again(run.store, before)  # it was read while it could be retried
    run.drain(lambda grant: done(grant, "B"))
    with pytest.raises(Conflict, match="is rollback_failed") as failed:
        read(run.store, run.run_id)
    run.roll_back()
    run.drain()
    with pytest.raises(Conflict, match="was rolled back") as undone:
        read(run.store, run.run_id)

    assert f"coord rollback {run.run_id}" in going.value.hint
    assert f"coord rollback {run.run_id}" in failed.value.hint
    assert undone.value.hint == "start a new run: coord sweep PLAN-001"
