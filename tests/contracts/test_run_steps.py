"""The steps of a run keep the promises of runs/__init__.py. Any order of events: test_runs_machine.py."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from coordination.models import Issue, OnFailure, Strategy
from coordination.planner.graph import build
from coordination.runs.attempt_store import Grant
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import CHUNK, RunDraft
from tests.engine import BAD, LEASE, OK, Engine
from tests.plans import PLAN, ecosystem, graph, order

DIAMOND = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["A"]), "D": ("r1", ["B", "C"])}
STRATEGIES = pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])


@STRATEGIES
def test_promise_1_a_todo_starts_only_after_all_its_predecessors_succeeded(run: Engine, strategy: Strategy):
    run.begin(DIAMOND, strategy=strategy)
    assert run.store.claim(run.run_id, "D", 1, worker="w", host="h", lease=LEASE).word in ("stale", "early")
    started = run.drain()

    assert started[0] == "A"
    assert started[-1] == "D"
    assert sorted(started) == ["A", "B", "C", "D"]
    assert run.view().status == "succeeded"
    assert run.store.live_runs() == []


@STRATEGIES
def test_promise_1_the_first_of_two_predecessors_starts_nothing(run: Engine, strategy: Strategy):
    run.begin(DIAMOND, strategy=strategy)
    run.settle(run.take("A"))
    run.settle(run.take("B"))

    assert run.states(["D"]) == {"D": "waiting"}


def test_promise_2_a_worker_that_lost_its_lease_changes_nothing(run: Engine):
    run.begin({"A": "r1"})
    old = run.take("A")
    run.store.renew({f"{run.run_id} A": old.fence}, LEASE)
    assert run.store.lose(run.run_id, "A", 3).word == "alive"
    assert run.lose("A") == "requeued"
    new = run.take("A")

    assert new.fence > old.fence
    assert run.settle(old) == "stale"
    assert run.store.retry(old, timedelta(0), BAD).word == "stale"
    assert run.store.park(old, "x", timedelta(seconds=1)).word == "stale"
    assert run.store.renew({f"{run.run_id} A": old.fence}, LEASE)[0] == [f"{run.run_id} A"]
    assert run.states() == {"A": "running"}
    assert run.settle(new) == "settled"


def test_promise_3_there_is_one_outcome_whatever_is_delivered_twice_or_late(run: Engine):
    run.begin(DIAMOND)
    first = run.mail.popleft()
    lost = run.claim(first, request="q1").grant
    assert lost is not None
    assert run.claim(first, request="q1").grant == lost, "who did not hear the answer asks again"
    assert run.claim(first).word == "taken"
    run.retry(lost, timedelta(0), BAD)
    assert run.claim(first).word == "stale", "a message of an earlier attempt"
    grant = run.take("A")

    assert run.settle(grant, OK) == "settled"
    assert run.settle(grant, BAD) == "again"
    assert run.claim(first).word == "ended"
    assert run.states()["A"] == "succeeded"
    assert run.view().status == "running"


def test_todos_of_one_repository_run_one_at_a_time_most_urgent_first(run: Engine):
    run.begin({"A": "r1", "B": "r1", "C": "r1", "Z": ("r2", ["C"])})
    assert [d.todo_id for d in run.mail] == ["C"]  # the longest path leads through C

    grant = run.take("C")
    assert run.states() == {"A": "ready", "B": "ready", "C": "running", "Z": "waiting"}
    run.settle(grant)
    assert {d.todo_id for d in run.mail} == {"A", "Z"}


def test_under_levels_a_todo_that_is_delivered_before_its_turn_is_parked_and_sent_again(run: Engine):
    run.begin({"A": "r1", "B": "r1"}, strategy=Strategy.LEVELS)
    grant = run.take("A")
    early = run.claim(run.mail.popleft())
    assert early.word == "early"
    assert run.view().todos[1].waits_for == "repository r1, where A comes first"

    run.settle(grant)
    assert [(d.todo_id, d.index, d.size) for d in run.mail] == [("B", 1, 2)]
    assert run.drain() == ["B"]
    assert run.view().status == "succeeded"


def test_a_failure_skips_its_dependents_or_halts_the_run_and_says_so(run: Engine):
    todos = {"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["B"]), "X": "r4", "Y": ("r4", ["X"])}
    run.begin(todos, on_failure=OnFailure.CONTINUE)
    run.settle(run.take("A"), BAD)

    assert run.states("ABCX") == {"A": "failed", "B": "skipped", "C": "skipped", "X": "dispatched"}
    assert {t.error for t in run.view().todos if t.state == "skipped"} == {"needs A, which failed"}
    assert run.drain() == ["X", "Y"]
    assert run.view().status == "failed"

    run.begin(todos, on_failure=OnFailure.HALT)
    running = run.take("X")
    run.settle(run.take("A"), BAD)

    assert run.states("AXY") == {"A": "failed", "X": "running", "Y": "skipped"}
    assert run.view().status == "running"
    run.settle(running)
    assert run.view().status == "failed"
    assert run.drain() == []
    assert run.states("X") == {"X": "succeeded"}


@pytest.mark.parametrize("slots", [1, 2])
def test_runs_share_a_repository_by_its_slots_and_one_that_waits_is_woken(store: RunStore, slots: int):
    first, *others = (Engine(store).begin({"A": "r1"}, slots=slots) for _ in range(slots + 1))
    grant = first.take("A")
    *working, waiting = others
    for run in working:
        run.take("A")
    assert waiting.claim(waiting.mail.popleft()).word == "parked"
    ids = sorted(run.run_id for run in (first, *working))
    if slots == 1:
        assert waiting.waits_for("A") == f"repository r1, in use by run {ids[0]}"

    assert first.store.settle(grant, OK).wakes == ((waiting.run_id, "A"),)
    waiting.fire("A")
    assert waiting.drain() == ["A"]
    assert waiting.view().status == "succeeded"


def test_a_run_stays_on_the_host_that_first_claimed_its_repository(run: Engine):
    run.begin({"A": "r1", "B": ("r1", ["A"])})
    run.settle(run.take("A"))
    assert [d.host for d in run.mail] == ["h1"]

    refused = run.claim(run.mail.popleft(), host="h2")
    assert refused.word == "elsewhere"
    assert [d.host for d in run.mail] == ["h1"]
    assert run.drain() == ["B"]


def test_a_worker_that_cannot_work_in_the_repository_leaves_the_todo_to_others_with_its_reason(run: Engine):
    run.begin({"A": "r1"})
    refused = run.claim(run.mail.popleft(), unfit="a worker for r1: on host h1 there is no folder /r1")

    assert refused.word == "parked"
    waiting = run.view().todos[0]
    assert (waiting.state, waiting.waits_for) == (
        "parked",
        "a worker for r1: on host h1 there is no folder /r1",
    )
    run.fire("A")
    assert run.claim(run.mail.popleft(), host="h2").word == "granted"


@STRATEGIES
def test_a_todo_without_its_host_is_stranded_until_the_host_is_back(run: Engine, strategy: Strategy):
    run.begin({"A": "r1", "B": ("r1", ["A"])}, strategy=strategy)
    assert run.store.park_unserved(run.run_id, []).word == "served", "it may go to any host"
    running = run.take("A")
    assert run.store.park_unserved(run.run_id, []).word == "served"
    run.settle(running)
    old = run.mail.popleft()

    assert run.park_unserved([("r1", "h2")]).word == "stranded"
    assert run.park_unserved([]).word == "served"
    assert not run.mail
    assert run.claim(old).word == "early"

    run.park_unserved([("r1", "h1")])
    assert run.drain() == ["B"]
    assert run.view().status == "succeeded"


def nobody_serves(run: Engine, todo: str, *served: tuple[str, str]) -> str:
    """The todo was dispatched long ago, and living workers serve only these repositories."""
    run.store.redis.hset(run.store.keys.run(run.run_id).facts, f"{todo} since", 0)
    return run.park_unserved(served).word


TWO_CHAINS = {"A": "r1", "B": ("r1", ["A"]), "C": "r2", "D": ("r2", ["C"])}


@STRATEGIES
def test_a_todo_that_no_worker_serves_takes_no_share_until_one_does(run: Engine, strategy: Strategy):
    run.begin({"A": "r1", "C": "r2"}, strategy=strategy, max_parallel=1)
    first = run.mail[0].todo_id
    other = "C" if first == "A" else "A"
    repo = {"A": "r1", "C": "r2"}

    assert nobody_serves(run, first, (repo[other], "h")) == "stranded"
    assert run.waits_for(first) == f"a worker for {repo[first]}: none serves it"
    run.settle(run.take(other))
    assert run.park_unserved([(repo[first], "h")]).word == "served"
    run.settle(run.take(first))
    assert run.view().status == "succeeded"


OUTSIDE: dict[str, Callable[[Engine], object]] = {
    "no worker serves it": lambda run: nobody_serves(run, "A", ("r2", "h1")),
    "the worker cannot work there": lambda run: run.claim(run.mail.popleft(), unfit="a folder"),
    "it parks": lambda run: run.park(run.take("A"), "a folder", timedelta(hours=1)),
    "trouble of the machine": lambda run: run.follow(
        run.store.hold_up(run.take("A"), "a disk", timedelta(hours=1))
    ),
}


@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize("how", OUTSIDE)
def test_levels_of_auto_end_with_the_first_wait_for_something_outside(run: Engine, how: str, auto: bool):
    run.begin(TWO_CHAINS, strategy=Strategy.LEVELS, auto=auto)
    C = run.take("C")
    OUTSIDE[how](run)
    run.settle(C)

    view = run.view()
    assert view.strategy == ("dataflow" if auto else "levels")
    assert [event["title"] for event in run.events("run.switched")] == ([view.switched] if auto else [])
    assert run.states(["A", "D"]) == {"A": "parked", "D": "dispatched" if auto else "waiting"}
    assert run.drain() == (["D"] if auto else [])


def test_a_run_that_left_its_levels_uses_the_messages_of_the_open_level_once(run: Engine):
    run.begin({"A": "r1", "B": "r1", "C": "r2", "D": ("r2", ["C"])}, strategy=Strategy.LEVELS, auto=True)
    joined = run.mail[0]
    nobody_serves(run, "C", ("r1", "h1"))
    A = run.take("A")
    run.settle(A)

    assert sorted(d.todo_id for d in run.mail) == ["B", "C"]
    assert run.store.advance(run.run_id, 0, "join").word == "past"
    run.resend(timedelta(0), 10)
    assert {d.size for d in run.mail if d.todo_id == "B"} == {joined.size, 0}, "sent again without the chord"
    run.store.park_unserved(run.run_id, [("r1", "h1"), ("r2", "h1")])
    run.resend(timedelta(0), 10)
    assert sorted(run.drain()) == ["B", "C", "D"]
    assert (run.view().status, len(run.events("run.switched"))) == ("succeeded", 1)


def test_a_level_with_a_gate_is_opened_by_each_todo_for_itself(run: Engine):
    more = {"C": {"gate": True}}
    run.begin(
        {"A": "r1", "B": ("r1", ["A"]), "C": ("r2", ["A"]), "D": ("r1", ["B"])},
        strategy=Strategy.LEVELS, auto=True, more=more,
    )  # fmt: skip

    assert run.drain() == ["A", "B", "D"]
    assert run.view().switched == "C waited for an approval: coord approve C"
    run.approve("C", "me", "")
    assert run.drain() == ["C"]


def test_a_paused_run_may_leave_its_levels_and_starts_nothing(run: Engine):
    run.begin(TWO_CHAINS, strategy=Strategy.LEVELS, auto=True)
    A, C = run.take("A"), run.take("C")
    run.store.pause(run.run_id, "me")
    run.settle(C)
    run.park(A, "a folder", timedelta(hours=1))

    assert (run.view().strategy, run.states(["D"]), list(run.mail)) == ("dataflow", {"D": "ready"}, [])
    run.resume("me")
    assert run.drain() == ["D"]


@pytest.mark.parametrize("end", ["cancel", "roll back"])
def test_a_run_that_is_ending_stays_as_it_is(run: Engine, end: str):
    run.begin(TWO_CHAINS, strategy=Strategy.LEVELS, auto=True)
    A, C = run.take("A"), run.take("C")
    if end == "cancel":
        run.store.cancel(run.run_id, "me")
    else:
        run.roll_back()
    for grant in (A, C):
        run.park(grant, "a folder", timedelta(hours=1))

    assert (run.view().strategy, run.events("run.switched")) == ("levels", [])


def test_a_cancelled_run_starts_nothing_and_asks_what_runs_to_stop(run: Engine):
    run.begin(DIAMOND)
    grant = run.take("A")
    assert run.cancel("me").word == "cancelled"

    assert run.states() == {"A": "running", "B": "cancelled", "C": "cancelled", "D": "cancelled"}
    assert run.store.renew({f"{run.run_id} A": grant.fence}, LEASE)[1] == [f"{run.run_id} A"]
    run.settle(grant, Result(outcome=TodoState.CANCELLED))
    assert run.view().status == "cancelled"
    assert run.cancel("me").word == "ended"


GIVES_UP: dict[str, Callable[[Engine, Grant], object]] = {
    "retry": lambda run, grant: run.retry(grant, timedelta(milliseconds=1), BAD),
    "park": lambda run, grant: run.park(grant, "the workspace", timedelta(milliseconds=1)),
    "hand back": lambda run, grant: run.hand_back(grant),
    "lose its lease": lambda run, grant: run.lose(grant.todo_id),
}


@pytest.mark.parametrize("end", ["cancel", "halt"])
@pytest.mark.parametrize("how", GIVES_UP)
def test_a_todo_that_would_come_back_after_the_end_ends_too(run: Engine, end: str, how: str):
    run.begin({"A": "r1", "B": "r2", "C": ("r2", ["B"])}, on_failure=OnFailure.HALT)
    slow = run.take("B")
    if end == "cancel":
        run.store.cancel(run.run_id, "me")
    else:
        run.settle(run.take("A"), BAD)

    GIVES_UP[how](run, slow)

    outcome = "cancelled" if end == "cancel" else "skipped" if how == "park" else "failed"
    assert run.todo("B").state == outcome
    if outcome == "skipped":
        assert run.todo("B").error == "halted: A failed"
    elif outcome == "failed":
        assert run.todo("B").error
    assert run.view().status == ("cancelled" if end == "cancel" else "failed")


@STRATEGIES
def test_a_paused_run_sends_nothing_when_what_runs_has_settled(run: Engine, strategy: Strategy):
    run.begin({"A": "r1", "B": ("r2", ["A"]), "C": ("r3", ["A"])}, strategy=strategy)
    a = run.take("A")
    run.store.pause(run.run_id, "me")

    run.settle(a)

    assert run.states() == {"A": "succeeded", "B": "ready", "C": "ready"}
    run.resume("me")
    assert sorted(run.drain()) == ["B", "C"]


def test_a_level_opens_once_however_often_its_join_fires(run: Engine):
    run.begin({"A": "r1", "B": "r2", "C": ("r1", ["A", "B"])}, strategy=Strategy.LEVELS)
    assert run.store.advance(run.run_id, 0, "join").word == "early"
    for name in "AB":
        run.store.settle(run.take(name), OK)

    assert run.store.advance(run.run_id, 0, "join").word == "advanced"
    assert run.store.advance(run.run_id, 0, "reaper").word == "past"


def test_a_todo_blocked_from_outside_is_in_the_run_as_skipped_with_the_reason(run: Engine):
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


def test_a_fence_grows_even_over_a_server_that_forgot_the_last_one(run: Engine):
    run.begin({"A": "r1"})
    first = run.take("A")
    run.store.redis.delete(run.store.keys.fence)
    run.hand_back(first)

    assert run.take("A").fence > first.fence


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_draft_expires_unless_it_is_sealed(run: Engine, monkeypatch: pytest.MonkeyPatch):
    run.begin({"A": "r1"})
    assert run.store.redis.ttl(run.store.keys.run(run.run_id).meta) == -1
    assert run.store.seal(run.run_id).word == "known"
    run.store.redis.flushall()

    todos = {f"T{i}": "r1" for i in range(CHUNK + 1)}
    monkeypatch.setattr(RunDraft, "seal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.submit(graph(todos), ecosystem(todos), order())

    written = run.store.redis.keys("test:run:*")
    assert written
    assert [key for key in written if run.store.redis.ttl(key) < 0] == []


@STRATEGIES
@pytest.mark.parametrize("max_parallel", [None, 1])
def test_messages_that_were_all_lost_are_sent_again_without_a_wait_for_each_todo(
    run: Engine, strategy: Strategy, max_parallel: int | None
):
    run.begin({"A": "r1", "B": "r1", "C": "r1", "X": "r2"}, strategy=strategy, max_parallel=max_parallel)
    run.mail.clear()
    assert run.resend(timedelta(0), 10).word == "sent"

    assert sorted(run.drain()) == ["A", "B", "C", "X"]
    assert run.view().status == "succeeded"


def test_after_a_resume_nothing_says_any_more_that_it_waits_for_one(run: Engine):
    todos = {
        "U": "r2",
        "A": "r1",
        "B": ("r3", ["U"]),
        "C": ("r4", ["U"]),
        "D": ("r5", ["B"]),
        "E": ("r6", ["C"]),
    }
    run.begin(todos, max_parallel=2)
    urgent = run.take("U")
    run.store.pause(run.run_id, "me")
    assert run.next() is None
    run.settle(urgent)  # B and C come before A now

    run.resume("me")

    waiting = {t.id: t.waits_for for t in run.view().todos if t.state == "parked"}
    assert waiting == {"A": "its turn"}
    assert sorted(run.drain()) == ["A", "B", "C", "D", "E"]
