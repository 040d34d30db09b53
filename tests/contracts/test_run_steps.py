"""The steps of a run, held to the promises of runs/__init__.py, on a real server and on the fake one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordination.models import Issue, OnFailure, Strategy
from coordination.planner.graph import build
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import CHUNK
from tests.contracts.carrier import BAD, LEASE, OK, Harness
from tests.plans import PLAN, ecosystem, graph, order

DIAMOND = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["A"]), "D": ("r1", ["B", "C"])}


def sweep(run: Harness, todos, **how) -> Harness:
    more = how.pop("more", {})
    slots = how.pop("slots", 1)
    settings = how.pop("settings", None)
    run.submit(
        graph(todos, slots=slots, **more), ecosystem(todos, slots=slots, **more), order(**how), settings
    )
    return run


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_promise_1_a_todo_starts_only_after_all_its_predecessors_succeeded(run: Harness, strategy: Strategy):
    started = sweep(run, DIAMOND, strategy=strategy).drain()

    assert started[0] == "A"
    assert started[-1] == "D"
    assert sorted(started) == ["A", "B", "C", "D"]
    assert run.view().status == "succeeded"


def test_promise_1_a_claim_ahead_of_its_turn_is_refused(run: Harness):
    sweep(run, DIAMOND)
    from_nowhere = run.store.claim(run.run_id, "D", 1, worker="w", host="h", lease=LEASE)

    assert from_nowhere.word == "stale"
    assert run.states()["D"] == "waiting"


def test_promise_2_whoever_lost_the_lease_changes_nothing(run: Harness):
    sweep(run, {"A": "r1"})
    old = run.take("A")
    run.store.redis.zadd(run.store.keys.leases, {f"{run.run_id} A": 1})
    assert run.follow(run.store.lose(run.run_id, "A", 3)).word == "requeued"
    new = run.take("A")

    assert new.fence > old.fence
    assert run.settle(old) == "stale"
    assert run.store.retry(old, timedelta(0), BAD).word == "stale"
    assert run.store.park(old, "x", timedelta(seconds=1)).word == "stale"
    assert run.store.renew({f"{run.run_id} A": old.fence}, LEASE)[0] == [f"{run.run_id} A"]
    assert run.states() == {"A": "running"}
    assert run.settle(new) == "settled"


def test_promise_3_there_is_one_outcome_whatever_is_delivered_twice_or_late(run: Harness):
    sweep(run, DIAMOND)
    first = run.mail[0]
    grant = run.take("A")

    assert run.claim(first).word == "taken"
    assert run.settle(grant, OK) == "settled"
    assert run.settle(grant, BAD) == "again"
    assert run.claim(first).word == "ended"
    assert run.states()["A"] == "succeeded"


def test_promise_3_a_message_of_an_earlier_attempt_starts_nothing(run: Harness):
    sweep(run, {"A": "r1"})
    first = run.mail[0]
    run.follow(run.store.retry(run.take("A"), timedelta(0), BAD))

    assert run.claim(first).word == "stale"
    assert run.states() == {"A": "dispatched"}
    assert run.drain() == ["A"]


def test_promise_3_a_repeated_request_gets_the_same_grant(run: Harness):
    sweep(run, {"A": "r1"})
    delivery = run.mail.popleft()
    first = run.claim(delivery, request="q1").grant
    second = run.claim(delivery, request="q1").grant

    assert first is not None
    assert first == second


def test_promise_6_a_run_ends_when_its_last_todo_has_settled_and_not_before(run: Harness):
    sweep(run, {"A": "r1", "B": "r2"})
    run.settle(run.take("A"))
    assert run.view().status == "running"

    run.settle(run.take("B"))
    assert run.view().status == "succeeded"
    assert run.store.live_runs() == []


def test_todos_of_one_repository_run_one_at_a_time_most_urgent_first(run: Harness):
    sweep(run, {"A": "r1", "B": "r1", "C": "r1", "Z": ("r2", ["C"])})
    assert [d.todo_id for d in run.mail] == ["C"]  # the longest path leads through C

    grant = run.take("C")
    assert run.states() == {"A": "ready", "B": "ready", "C": "running", "Z": "waiting"}
    run.settle(grant)
    assert {d.todo_id for d in run.mail} == {"A", "Z"}


def test_under_levels_a_todo_that_is_delivered_before_its_turn_is_parked_and_sent_again(run: Harness):
    sweep(run, {"A": "r1", "B": "r1"}, strategy=Strategy.LEVELS)
    grant = run.take("A")
    early = run.claim(run.mail.popleft())
    assert early.word == "early"
    assert run.view().todos[1].waits_for == "repository r1, where A comes first"

    run.settle(grant)
    assert [(d.todo_id, d.index, d.size) for d in run.mail] == [("B", 1, 2)]
    assert run.drain() == ["B"]
    assert run.view().status == "succeeded"


def test_max_parallel_is_never_exceeded(run: Harness):
    sweep(run, {name: name.lower() for name in "ABCDEF"}, max_parallel=2)
    assert len(run.mail) == 2
    first, second = run.next(), run.next()
    assert first is not None
    assert second is not None
    assert not run.mail

    run.settle(first)
    assert len(run.mail) == 1


def test_under_continue_only_what_depends_on_the_failure_is_skipped_and_says_on_what(run: Harness):
    sweep(run, {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["B"]), "X": "r4"})
    run.settle(run.take("A"), BAD)

    assert run.states() == {"A": "failed", "B": "skipped", "C": "skipped", "X": "dispatched"}
    assert {t.error for t in run.view().todos if t.state == "skipped"} == {"needs A, which failed"}
    run.drain()
    assert run.view().status == "failed"


def test_under_halt_nothing_new_starts_and_what_runs_finishes(run: Harness):
    sweep(run, {"A": "r1", "B": "r2", "C": ("r2", ["B"]), "X": "r4"}, on_failure=OnFailure.HALT)
    running = run.take("B")
    run.settle(run.take("A"), BAD)

    assert run.states() == {"A": "failed", "B": "running", "C": "skipped", "X": "skipped"}
    assert run.view().status == "running"
    run.settle(running)
    assert run.view().status == "failed"
    assert run.drain() == []
    assert run.states()["B"] == "succeeded"


def test_a_retried_todo_frees_its_repository_and_comes_back_when_its_timer_is_due(run: Harness):
    sweep(run, {"A": "r1", "B": "r1"})
    grant = run.take("A")
    run.follow(run.store.retry(grant, timedelta(milliseconds=1), BAD))
    assert run.states() == {"A": "retrying", "B": "dispatched"}
    assert [t.waits_for for t in run.view().todos if t.id == "A"] == ["another try"]

    run.settle(run.take("B"))
    run.follow(run.store.fire(run.run_id, "A"))
    assert [(d.todo_id, d.attempt) for d in run.mail] == [("A", 2)]
    again = run.take("A")
    assert again.tries == 1
    run.settle(again)
    assert run.view().status == "succeeded"


def test_a_todo_that_loses_its_worker_too_often_fails(run: Harness):
    sweep(run, {"A": "r1"})
    words = []
    for _ in range(3):
        run.take("A")
        run.store.redis.zadd(run.store.keys.leases, {f"{run.run_id} A": 1})
        words.append(run.follow(run.store.lose(run.run_id, "A", 3)).word)

    assert words == ["requeued", "requeued", "settled"]
    assert run.view().status == "failed"
    assert "lost 3 times" in (run.view().todos[0].error or "")


def test_a_lease_that_was_renewed_is_not_lost(run: Harness):
    sweep(run, {"A": "r1"})
    grant = run.take("A")
    run.store.renew({f"{run.run_id} A": grant.fence}, LEASE)

    assert run.store.lose(run.run_id, "A", 3).word == "alive"


def test_a_todo_handed_back_is_taken_up_at_once_and_counts_towards_nothing(run: Harness):
    sweep(run, {"A": "r1"})
    for _ in range(5):
        run.follow(run.store.hand_back(run.take("A")))
    again = run.take("A")

    assert again.tries == 0
    assert again.attempt == 6


def test_two_runs_share_a_repository_by_its_slots_and_the_second_is_woken(store: RunStore):
    first, second = Harness(store), Harness(store)
    sweep(first, {"A": "r1"})
    sweep(second, {"A": "r1"})
    grant = first.take("A")
    assert second.claim(second.mail.popleft()).word == "parked"
    assert second.view().todos[0].waits_for == f"repository r1, where run {first.run_id} works"

    woken = first.store.settle(grant, OK)
    assert woken.wakes == ((second.run_id, "A"),)
    second.follow(store.fire(second.run_id, "A"))
    assert second.drain() == ["A"]
    assert second.view().status == "succeeded"


def test_two_slots_let_two_runs_in(store: RunStore):
    first, second = Harness(store), Harness(store)
    sweep(first, {"A": "r1"}, slots=2)
    sweep(second, {"A": "r1"}, slots=2)

    first.take("A")
    second.take("A")


def test_a_run_stays_on_the_host_that_first_claimed_its_repository(run: Harness):
    sweep(run, {"A": "r1", "B": ("r1", ["A"])})
    run.settle(run.take("A"))
    assert [d.host for d in run.mail] == ["h1"]

    refused = run.claim(run.mail.popleft(), host="h2")
    assert refused.word == "elsewhere"
    assert [d.host for d in run.mail] == ["h1"]
    assert run.drain() == ["B"]


def test_a_worker_that_cannot_work_in_the_repository_leaves_the_todo_to_others_with_its_reason(run: Harness):
    sweep(run, {"A": "r1"})
    refused = run.claim(run.mail.popleft(), unfit="a worker for r1: on host h1 there is no folder /r1")

    assert refused.word == "parked"
    waiting = run.view().todos[0]
    assert (waiting.state, waiting.waits_for) == (
        "parked",
        "a worker for r1: on host h1 there is no folder /r1",
    )
    run.follow(run.store.fire(run.run_id, "A"))
    assert run.claim(run.mail.popleft(), host="h2").word == "granted"


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_what_waits_for_its_host_goes_on_by_a_message_of_its_own_whatever_is_still_in_the_queue(
    run: Harness, strategy: Strategy
):
    sweep(run, {"A": "r1", "B": ("r1", ["A"])}, strategy=strategy)
    run.settle(run.take("A"))
    old = run.mail.popleft()

    assert run.follow(run.store.park_unserved(run.run_id, [("r1", "h2")])).word == "stranded"
    assert run.follow(run.store.park_unserved(run.run_id, [])).word == "served"
    assert not run.mail
    assert run.claim(old).word == "early"

    run.follow(run.store.park_unserved(run.run_id, [("r1", "h1")]))
    assert run.drain() == ["B"]
    assert run.view().status == "succeeded"


def test_what_runs_or_waits_for_its_first_host_is_not_stranded(run: Harness):
    sweep(run, {"A": "r1", "B": "r2"})
    run.take("A")

    assert run.store.park_unserved(run.run_id, []).word == "served"
    assert run.states() == {"A": "running", "B": "dispatched"}


def test_a_cancelled_run_starts_nothing_and_asks_what_runs_to_stop(run: Harness):
    sweep(run, DIAMOND)
    grant = run.take("A")
    assert run.store.cancel(run.run_id, "me").word == "cancelled"

    assert run.states() == {"A": "running", "B": "cancelled", "C": "cancelled", "D": "cancelled"}
    assert run.store.renew({f"{run.run_id} A": grant.fence}, LEASE)[1] == [f"{run.run_id} A"]
    run.settle(grant, Result(outcome=TodoState.CANCELLED))
    assert run.view().status == "cancelled"
    assert run.store.cancel(run.run_id, "me").word == "ended"


def test_a_failure_after_a_cancel_is_not_tried_again(run: Harness):
    sweep(run, {"A": "r1"})
    grant = run.take("A")
    run.store.cancel(run.run_id, "me")

    assert run.store.retry(grant, timedelta(0), BAD).word == "settled"
    assert run.view().status == "cancelled"


def test_a_failure_after_a_halt_is_not_tried_again(run: Harness):
    sweep(run, {"A": "r1", "B": "r2"}, on_failure=OnFailure.HALT)
    slow = run.take("B")
    run.settle(run.take("A"), BAD)

    assert run.follow(run.store.retry(slow, timedelta(milliseconds=1), BAD)).word == "settled"
    assert run.states() == {"A": "failed", "B": "failed"}
    assert run.view().status == "failed"


def test_a_todo_that_cannot_begin_after_a_cancel_ends_instead_of_coming_back(run: Harness):
    sweep(run, {"A": "r1", "B": ("r2", ["A"])})
    grant = run.take("A")
    run.store.cancel(run.run_id, "me")

    assert run.follow(run.store.park(grant, "the workspace", timedelta(milliseconds=1))).word == "settled"
    assert run.states() == {"A": "cancelled", "B": "cancelled"}
    assert run.view().status == "cancelled"


def test_a_todo_that_cannot_begin_after_a_halt_ends_instead_of_starting_later(run: Harness):
    sweep(run, {"A": "r1", "B": "r2"}, on_failure=OnFailure.HALT)
    held_up = run.take("B")
    run.settle(run.take("A"), BAD)

    assert run.follow(run.store.park(held_up, "the workspace", timedelta(milliseconds=1))).word == "settled"
    assert run.states() == {"A": "failed", "B": "skipped"}
    assert run.view().todos[1].error == "halted: A failed"
    assert run.view().status == "failed"


@pytest.mark.parametrize("lost", ["handed back", "lost"])
def test_what_a_halt_or_a_lost_worker_ends_says_why(run: Harness, lost: str):
    sweep(run, {"A": "r1", "B": "r2"}, on_failure=OnFailure.HALT)
    slow = run.take("B")
    run.settle(run.take("A"), BAD)
    if lost == "lost":
        run.store.redis.zadd(run.store.keys.leases, {f"{run.run_id} B": 1})
        run.follow(run.store.lose(run.run_id, "B", 3))
    else:
        run.follow(run.store.hand_back(slow))

    assert run.states()["B"] == "failed"
    assert run.view().todos[1].error


def test_a_paused_run_starts_nothing_until_it_is_resumed(run: Harness):
    sweep(run, {"A": "r1", "B": ("r1", ["A"])})
    assert run.store.pause(run.run_id, "me").word == "paused"
    assert run.next() is None
    assert run.states()["A"] == "parked"

    run.follow(run.store.resume(run.run_id, "me"))
    assert run.drain() == ["A", "B"]


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_a_paused_run_sends_nothing_when_what_runs_has_settled(run: Harness, strategy: Strategy):
    sweep(run, {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["A"])}, strategy=strategy)
    a = run.take("A")
    run.store.pause(run.run_id, "me")

    run.settle(a)

    assert run.states() == {"A": "succeeded", "B": "ready", "C": "ready"}
    run.follow(run.store.resume(run.run_id, "me"))
    assert sorted(run.drain()) == ["B", "C"]


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_a_manual_todo_waits_for_a_person_and_holds_nothing(run: Harness, strategy: Strategy):
    todos = {"A": "r1", "M": "r1", "B": ("r1", ["A", "M"])}
    sweep(run, todos, more={"M": {"action": {"type": "manual"}}}, strategy=strategy)
    assert run.drain() == ["A"]
    waiting = next(t for t in run.view().todos if t.id == "M")
    assert waiting.waits_for == "a person: coord complete-todo M"

    assert run.follow(run.store.complete(run.run_id, "M", "me")).word == "settled"
    run.join()
    assert run.drain() == ["B"]
    assert run.view().status == "succeeded"


def test_a_level_opens_once_however_often_its_join_fires(run: Harness):
    sweep(run, {"A": "r1", "B": "r2", "C": ("r1", ["A", "B"])}, strategy=Strategy.LEVELS)
    assert run.store.advance(run.run_id, 0, "join").word == "early"
    for name in "AB":
        run.store.settle(run.take(name), OK)

    assert run.store.advance(run.run_id, 0, "join").word == "advanced"
    assert run.store.advance(run.run_id, 0, "reaper").word == "past"


def test_levels_whose_todos_are_all_skipped_are_passed_over(run: Harness):
    todos = {
        "A": "r1",
        "X": "r2",
        "B": ("r1", ["A"]),
        "C": ("r3", ["B"]),
        "Y": ("r2", ["X"]),
        "Z": ("r2", ["Y"]),
    }
    sweep(run, todos, strategy=Strategy.LEVELS)
    started = run.drain(lambda grant: BAD if grant.todo_id == "A" else OK)

    assert started == ["A", "X", "Y", "Z"]
    assert run.view().counts == {"succeeded": 3, "failed": 1, "skipped": 2}


def test_a_todo_blocked_from_outside_is_in_the_run_as_skipped_with_the_reason(run: Harness):
    base = ecosystem({"A": "r1", "B": ("r2", ["ISSUE-1"])})
    issue = Issue(id="ISSUE-1", title="parser")
    with_issue = base.model_copy(
        update={"coordination": base.coordination.model_copy(update={"issues": (issue,)})}
    )
    run.submit(build(with_issue, PLAN), with_issue, order())
    run.drain()
    blocked = next(t for t in run.view().todos if t.id == "B")
    assert blocked.state == "skipped"
    assert "blocked by ISSUE-1" in (blocked.error or "")
    assert run.view().status == "succeeded"


def test_what_was_dispatched_and_never_claimed_is_sent_again(run: Harness):
    sweep(run, {"A": "r1"})
    run.mail.clear()
    assert run.follow(run.store.resend(run.run_id, timedelta(0), 10)).word == "sent"

    assert run.drain() == ["A"]


def test_a_fence_grows_even_over_a_server_that_forgot_the_last_one(run: Harness):
    sweep(run, {"A": "r1"})
    first = run.take("A")
    run.store.redis.delete(run.store.keys.fence)
    run.follow(run.store.hand_back(first))

    assert run.take("A").fence > first.fence


def test_a_draft_that_is_never_sealed_expires(run: Harness):
    sweep(run, {"A": "r1"})
    assert run.store.redis.ttl(run.store.keys.run(run.run_id).meta) == -1
    assert run.store.seal(run.run_id).word == "known"


def test_a_draft_whose_submitter_dies_between_two_chunks_expires(run: Harness):
    todos = {f"T{i}": "r1" for i in range(CHUNK + 1)} | {"LAST": "r2"}
    without_r2 = ecosystem({name: repo for name, repo in todos.items() if repo == "r1"})
    with pytest.raises(KeyError):  # where a submitter could as well be killed: the first chunk is written
        run.submit(graph(todos), without_r2, order())

    written = run.store.redis.keys("test:run:*")
    assert written
    assert [key for key in written if run.store.redis.ttl(key) < 0] == []


def test_a_level_whose_messages_were_all_lost_is_sent_again_without_a_wait_for_each_todo(run: Harness):
    sweep(run, {"A": "r1", "B": "r1", "C": "r1", "X": "r1-2"}, strategy=Strategy.LEVELS)
    run.mail.clear()
    run.follow(run.store.resend(run.run_id, timedelta(0), 10))

    assert sorted(run.drain()) == ["A", "B", "C", "X"]
    assert run.view().status == "succeeded"


def test_a_lost_level_under_a_limit_is_sent_again_without_a_wait_for_each_todo(run: Harness):
    sweep(run, {"A": "r1", "B": "r2", "C": "r3"}, strategy=Strategy.LEVELS, max_parallel=1)
    run.mail.clear()
    run.follow(run.store.resend(run.run_id, timedelta(0), 10))

    assert sorted(run.drain()) == ["A", "B", "C"]


def test_after_a_resume_nothing_says_any_more_that_it_waits_for_one(run: Harness):
    todos = {
        "U": "r2",
        "A": "r1",
        "B": ("r3", ["U"]),
        "C": ("r4", ["U"]),
        "D": ("r5", ["B"]),
        "E": ("r6", ["C"]),
    }
    sweep(run, todos, max_parallel=2)
    urgent = run.take("U")
    run.store.pause(run.run_id, "me")
    assert run.next() is None
    run.settle(urgent)  # B and C come before A now

    run.follow(run.store.resume(run.run_id, "me"))

    waiting = {t.id: t.waits_for for t in run.view().todos if t.state == "parked"}
    assert waiting == {"A": "its turn"}
    assert sorted(run.drain()) == ["A", "B", "C", "D", "E"]
