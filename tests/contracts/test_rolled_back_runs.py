"""Runs that are or were rolled back: how they are shown and followed, and what is refused for them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from redis import Redis

from coordination.backend.client import Profile, connect
from coordination.errors import Conflict, NotFound
from coordination.runs.control.steering import preview_of, refuse_built_on, refuse_to_accept
from coordination.runs.records import Result, TodoState
from coordination.runs.retrying.ended import read, refuse_again
from coordination.runs.submission.refusals import refuse_conflicts_of
from coordination.runs.views.live import Live
from coordination.runs.views.metrics import LiveCountReader
from coordination.runs.views.run_view import RunReader
from coordination.runs.views.timeline import ENDED, RunEvent, follow
from tests.contracts.run_harness import BAD, Harness
from tests.contracts.test_carry_over import retry

CHAIN = {"A": "r1", "B": ("r2", ["A"]), "C": ("r1", ["B"])}


def done(grant, failing: str = "") -> Result:
    if grant.todo_id == failing:
        return BAD
    return Result(outcome=TodoState.SUCCEEDED, exit_code=0, tip=f"{grant.todo_id}-1", began="0")


def swept(run: Harness, failing: str = "", **more) -> Harness:
    run.begin(CHAIN, more=more).drain(lambda grant: done(grant, failing))
    return run


def roll_back(run: Harness) -> Harness:
    run.roll_back()
    return run


def stuck(run: Harness) -> Harness:
    """B could not be undone, so A was not."""
    roll_back(swept(run)).drain(lambda grant: done(grant, "B"))
    return run


def retried(run: Harness) -> str:
    """Retry the run; the harness goes on with the retry."""
    retry(run)
    return run.run_id


def at(run: Harness, **times: int) -> None:
    """As if the todos had come to something then: `A_started_at=…` in ms."""
    names = {name.replace("_", " ", 1): value for name, value in times.items()}
    run.store.redis.hset(run.store.keys.run(run.run_id).facts, mapping=names)


def test_a_todo_that_is_being_undone_is_shown_as_compensating(run: Harness):
    roll_back(swept(run))
    assert run.states() == {"A": "succeeded", "B": "succeeded", "C": "compensating"}
    grant = run.take("C")
    assert run.view().counts == {"succeeded": 2, "compensating": 1}
    assert RunReader(run.store.redis, run.store.keys).list()[0].counts == run.view().counts
    live = Live(run.store.redis, run.store.keys).executing()
    assert {todo: one.state for todo, one in live.items()} == {
        "A": "succeeded",
        "B": "succeeded",
        "C": "compensating",
    }
    counted = LiveCountReader(run.store.redis, run.store.keys).read()
    assert (counted.runs, counted.todos) == ({"rolling_back": 1}, {"succeeded": 2, "compensating": 1})

    run.follow(run.store.retry(grant, timedelta(seconds=9), BAD))
    shown = run.todo("C")
    assert (shown.state, shown.was, shown.waits_for, shown.error) == (
        "compensating", "succeeded", "another try", "exit code 1",
    )  # fmt: skip


def test_the_outcome_of_a_todo_and_of_its_compensation_are_told_apart(run: Harness):
    roll_back(swept(run, "C"))
    at(run, B_started_at=1000, B_finished_at=3500)
    run.drain(lambda grant: done(grant, "B"))
    at(run, B_undo_started_at=9000, B_undo_finished_at=9200)

    view = run.view()
    failed, stands, undone = run.todo("B"), run.todo("A"), run.todo("C")
    assert (failed.state, failed.was, failed.error) == ("compensation_failed", "succeeded", "exit code 1")
    assert (failed.duration_s, failed.undo_s) == (2.5, 0.2)
    assert (stands.state, stands.was) == ("succeeded", None)
    assert (undone.state, undone.was, undone.error, undone.exit_code) == (
        "compensated",
        "failed",
        "exit code 1",
        1,
    )
    assert view.counts == {"succeeded": 1, "compensated": 1, "compensation_failed": 1}
    assert (view.status, view.steered_by, view.rollback) == ("rollback_failed", "lena", "lena asked for it")


def test_the_bound_of_a_run_counts_neither_compensations_nor_the_time_before_its_rollback(run: Harness):
    swept(run)
    meta = run.store.keys.run(run.run_id).meta
    ended = int(run.store.redis.hget(meta, "finished_at"))
    run.store.redis.hset(meta, mapping={"started_at": ended - 90_000 - 3_000, "finished_at": ended - 90_000})
    at(
        run,
        **{f"{todo}_{what}": ms for todo in "ABC" for what, ms in (("started_at", 0), ("finished_at", 1000))},
    )

    roll_back(run).drain()
    at(run, A_undo_started_at=0, A_undo_finished_at=50_000)

    assert run.view().bound_s == 3.0
    assert 3.0 <= run.view().duration_s < 60


def told(reader: Redis, run: Harness, since: str = "0") -> list[str]:
    """The events that a follower gets until the run has ended, as soon as all are there."""
    events = follow(reader, run.store.keys, run.run_id, since=since, tick_s=0.01)
    return [
        event.fields.get("status", event.what) for event in events if event and event.what.startswith("run.")
    ]


@pytest.fixture
def blocking(redis_url: str):
    with connect(redis_url, Profile.READER) as made:
        yield made


def test_a_follower_of_a_run_that_was_opened_again_is_told_of_both_ends(run: Harness, blocking: Redis):
    stuck(run)
    assert told(blocking, run) == ["run.started", "succeeded", "run.rolling_back", "rollback_failed"]
    run.follow(run.store.accept(run.run_id, "B", "lena", "done by hand"))
    run.drain()

    assert told(blocking, run)[2:] == [
        "run.rolling_back",
        "rollback_failed",
        "run.rolling_back",
        "rolled_back",
    ]


def test_a_run_is_followed_beyond_an_end_that_it_has_left(run: Harness, blocking: Redis):
    swept(run)
    events = follow(blocking, run.store.keys, run.run_id, tick_s=0.01)
    for event in events:
        if event and event.what == ENDED:
            break
        if event and event.what == "todo.succeeded" and event.todo == "C":
            roll_back(run)  # after its end was read, before it is told

    assert next(e for e in events if e).what == "run.rolling_back"
    run.drain()
    assert [e.fields["status"] for e in events if e and e.what == ENDED] == ["rolled_back"]


def test_a_follower_that_knows_of_the_end_waits_for_nothing(run: Harness, blocking: Redis):
    swept(run)
    last = [e for e in follow(blocking, run.store.keys, run.run_id) if isinstance(e, RunEvent)][-1]

    assert told(blocking, run, last.id) == []


def test_a_preview_tells_what_a_rollback_undoes_and_cannot_undo(run: Harness):
    by_itself = {
        "B": {"workspace": "in-place"},
        "C": {"workspace": "in-place", "compensate": "undo it", "env": {"MY_TOKEN": "it"}},
    }
    swept(run, "C", **by_itself)

    found = preview_of(run.store, run.run_id)
    assert (found.todos, found.repos, found.helpless) == (("A", "B", "C"), ("r1", "r2"), ("B",))
    assert found.compensations == {"C": "undo ***"}

    roll_back(run).drain(lambda grant: done(grant, "B"))
    assert preview_of(run.store, run.run_id).todos == ("A", "B")
    with pytest.raises(NotFound):
        preview_of(run.store, "no-such-run")


def test_a_retry_is_undone_with_the_run_that_it_builds_on(run: Harness):
    first = swept(run, "B").run_id
    second = retried(run)
    assert preview_of(run.store, second).todos == ("A", "B")  # begun there, and perhaps never here
    run.drain(done)
    with pytest.raises(Conflict, match=f"run {second} builds on run {first}") as refused:
        refuse_built_on(run.store, first)
    assert f"coord rollback {second}" in refused.value.hint

    roll_back(run)
    grants = {}
    while run.mail:
        grant = run.next()
        assert grant is not None
        assert grant.undo is not None
        grants[grant.todo_id] = grant.undo.run
        run.settle(grant)
    assert grants == {"C": second, "B": second, "A": first}
    assert set(run.states().values()) == {"compensated"}
    refuse_built_on(run.store, first)
    with pytest.raises(Conflict, match=f"run {second} was rolled back"):
        read(run.store, second)
    with pytest.raises(
        Conflict, match=f"retry already, run {second}, which was rolled back together with this run"
    ) as refused:
        read(run.store, first)
    assert refused.value.hint == "start a new run: coord sweep PLAN-001"


def test_a_todo_is_undone_in_the_name_of_the_run_that_began_it(run: Harness):
    first = swept(run, "B").run_id
    retried(run)
    run.mail.clear()

    roll_back(run)
    grant = run.take("B")

    assert grant.undo is not None
    assert (grant.undo.run, grant.undo.was) == (first, "cancelled")


def test_what_is_rolled_back_is_not_retried(run: Harness):
    swept(run, "B")
    before = read(run.store, run.run_id)
    roll_back(run)
    with pytest.raises(Conflict, match="is rolling_back") as going:
        refuse_again(run.store, before)  # it was read while it could be retried
    run.drain(lambda grant: done(grant, "B"))
    with pytest.raises(Conflict, match="is rollback_failed") as failed:
        read(run.store, run.run_id)
    roll_back(run).drain()
    with pytest.raises(Conflict, match="was rolled back") as undone:
        read(run.store, run.run_id)

    assert f"coord rollback {run.run_id}" in going.value.hint
    assert f"coord rollback {run.run_id}" in failed.value.hint
    assert undone.value.hint == "start a new run: coord sweep PLAN-001"


def test_what_is_still_to_be_undone_is_begun_by_nobody_else(run: Harness):
    roll_back(swept(run))
    reader = RunReader(run.store.redis, run.store.keys)

    with pytest.raises(Conflict, match="is rolling_back and executes A") as refused:
        refuse_conflicts_of(run.store, reader, {"A"})
    assert "coord cancel" not in refused.value.hint
    run.settle(run.take("C"))
    refuse_conflicts_of(run.store, reader, {"C"})


def test_only_a_failed_compensation_can_be_accepted_and_shows_the_reason(run: Harness):
    view = stuck(run).view()
    reader = RunReader(run.store.redis, run.store.keys)
    assert reader.branches(view) == dict.fromkeys(("r1", "r2"), f"coord/{run.run_id}")

    (asked,) = Live(run.store.redis, run.store.keys).asking()
    assert (asked.todo, asked.waits_for) == ("B", f"its compensation failed: coord rollback {run.run_id}")
    refuse_to_accept(view, ["B"])
    with pytest.raises(Conflict, match=r"A of run .* is succeeded: there is nothing to accept"):
        refuse_to_accept(view, ["B", "A"])
    with pytest.raises(NotFound, match="has no todo 'BB'"):
        refuse_to_accept(view, ["BB"])

    run.follow(run.store.accept(run.run_id, "B", "lena", "it may stay"))
    run.drain()
    shown = run.todo("B")
    assert (shown.state, shown.accepted, shown.accepted_by) == ("compensated", "it may stay", "lena")
    assert run.view().status == "rolled_back"
    assert reader.branches(run.view()) == {}
