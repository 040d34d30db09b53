"""At a gate nothing is held: no lock, no resource, no seat, no place in `max_parallel`; and what was decided
there stays so.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from coordination.models import Ecosystem, Milestone, OnFailure, Strategy
from coordination.planner.graph import build
from coordination.runs.retrying.ended import read
from coordination.runs.retrying.retry_plan import plan_retry_of, submit_retry
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.contracts.carrier import Harness
from tests.plans import PLAN, ecosystem, graph, order
from tests.waiting import until

ASKS = {"gate": {}}
BOTH = pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])


def begin(run: Harness, todos: Any, strategy: Strategy = Strategy.DATAFLOW, **more: Any) -> Harness:
    how = {name: more.pop(name) for name in ("on_failure", "max_parallel") if name in more}
    eco = ecosystem(todos, **more)
    run.submit(build(eco, PLAN), eco, order(strategy, **how))
    return run


def with_milestone(todos: Any, *dependencies: str, **gate: Any) -> Ecosystem:
    eco = ecosystem(todos)
    milestone = Milestone.model_validate(
        {"id": "M1", "name": "reviewed", "dependencies": dependencies, "gate": gate or True}
    )
    plan = eco.coordination.plans[0].model_copy(update={"milestones": (milestone,)})
    return eco.with_coordination(plans=(plan,))


def approve(run: Harness, todo: str, who: str = "lena") -> str:
    word = run.follow(run.store.approve(run.run_id, todo, who, "")).word
    run.join()
    return word


def reject(run: Harness, todo: str, comment: str = "not yet") -> str:
    word = run.follow(run.store.reject(run.run_id, todo, "lena", comment)).word
    run.join()
    return word


def held(store: RunStore) -> list[str]:
    """Every lock, seat, resource, lease and place in a queue that anybody has."""
    names = ("lock-shares", "lock-queue", "lock-request", "seat", "resource", "leases", "holders")
    return [key for key in store.redis.keys("test:*") if key.removeprefix("test:").startswith(names)]


@BOTH
def test_what_waits_at_a_gate_holds_nothing_and_others_have_it_all(run: Harness, strategy: Strategy) -> None:
    begin(
        run,
        {"A": "r1", "B": "r1"},
        strategy,
        capacities={"gpu": 1},
        max_parallel=1,
        A={**ASKS, "resources": ["gpu"], "priority": "critical"},
        B={"resources": ["gpu"]},
    )

    grant = run.take("B")
    assert len(held(run.store)) >= 4  # its seat, the resource, its lease, its fence
    run.settle(grant)
    assert run.drain() == []
    assert held(run.store) == []
    assert run.states() == {"A": "parked", "B": "succeeded"}
    assert run.store.redis.hget(run.store.keys.run(run.run_id).meta, "active") == "0"

    assert approve(run, "A") == "approved"
    assert run.drain() == ["A"]
    assert run.view().status == "succeeded"


@BOTH
def test_a_message_that_came_too_early_is_sent_again_after_the_approval(
    run: Harness, strategy: Strategy
) -> None:
    begin(run, {"A": "r1", "B": ("r2", ["A"])}, strategy, A=ASKS, B=ASKS)

    early = [d.todo_id for d in run.mail]
    assert run.drain() == []
    approve(run, "A")
    (again,) = run.mail

    assert early == (["A"] if strategy is Strategy.LEVELS else [])
    assert (again.todo_id, again.attempt, again.index) == ("A", 1, 0)
    assert run.drain() == ["A"]
    assert run.states() == {"A": "succeeded", "B": "parked"}
    approve(run, "B")
    assert run.drain() == ["B"]


def test_who_is_approved_before_its_message_comes_needs_no_second_one(run: Harness) -> None:
    begin(run, {"A": "r1"}, Strategy.LEVELS, A=ASKS)

    approve(run, "A")

    assert [d.todo_id for d in run.mail] == ["A"]
    assert run.drain() == ["A"]


def test_another_attempt_needs_no_second_approval(run: Harness) -> None:
    begin(run, {"A": "r1"}, A=ASKS)
    approve(run, "A")
    grant = run.take("A")
    run.store.redis.zadd(run.store.keys.leases, {f"{run.run_id} A": 1})

    assert run.follow(run.store.lose(run.run_id, "A", 3)).word == "requeued"

    assert run.take("A").attempt == grant.attempt + 1


@BOTH
def test_a_milestone_waits_for_its_approval_between_what_it_ties(run: Harness, strategy: Strategy) -> None:
    eco = with_milestone({"A": "r1", "B": ("r2", ["M1"])}, "A")
    run.submit(build(eco, PLAN), eco, order(strategy))

    assert run.drain() == ["A"]
    (milestone,) = (todo for todo in run.view().todos if todo.id == "M1")
    assert (milestone.state, milestone.repo, milestone.waits_for) == (
        "parked",
        "-",
        "an approval: coord approve M1",
    )
    assert held(run.store) == []
    assert approve(run, "M1") == "settled"
    assert run.drain() == ["B"]
    assert run.view().status == "succeeded"


@BOTH
@pytest.mark.parametrize(
    ("on_failure", "rest", "status"),
    [
        (OnFailure.HALT, {"B": "skipped", "C": "skipped"}, "failed"),
        (OnFailure.CONTINUE, {"B": "skipped", "C": "succeeded"}, "failed"),
        (OnFailure.ROLLBACK, {"B": "skipped", "C": "skipped"}, "rolled_back"),
    ],
)
def test_what_is_rejected_has_failed_and_the_policy_of_the_run_follows(
    run: Harness, strategy: Strategy, on_failure: OnFailure, rest: dict[str, str], status: str
) -> None:
    todos = {"A": "r1", "B": ("r1", ["A"]), "C": "r2"}
    begin(run, todos, strategy, on_failure=on_failure, A=ASKS)

    assert reject(run, "A") == "settled"
    run.drain()

    view = run.view()
    assert (view.status, run.states()) == (status, {"A": "failed", **rest})
    assert next(t for t in view.todos if t.id == "A").error == "rejected by lena: not yet"


def test_a_rejected_milestone_undoes_what_was_done_where_that_is_the_policy(run: Harness) -> None:
    eco = with_milestone({"A": "r1", "B": ("r2", ["M1"])}, "A")
    run.submit(build(eco, PLAN), eco, order(on_failure=OnFailure.ROLLBACK))
    run.drain()

    reject(run, "M1")
    undone = run.drain()

    assert (undone, run.view().status) == (["A"], "rolled_back")
    assert run.states()["M1"] == "failed"


def test_an_approved_milestone_leaves_nothing_to_undo(run: Harness) -> None:
    eco = with_milestone({"A": "r1", "B": ("r2", ["M1"])}, "A")
    run.submit(build(eco, PLAN), eco, order())
    run.drain()
    approve(run, "M1")
    run.drain()

    run.follow(run.store.rollback(run.run_id, "lena", "wrong"))
    undone = run.drain()

    assert (undone, run.view().status) == (["B", "A"], "rolled_back")
    assert run.states() == {"A": "compensated", "B": "compensated", "M1": "succeeded"}


def due(run: Harness) -> list[tuple[str, str]]:
    """Return the due timers, as soon as there are some."""
    return until(lambda: run.store.due(run.store.now_ms()), 5)


@pytest.mark.parametrize(("verdict", "state"), [("approve", "succeeded"), ("reject", "failed")])
@pytest.mark.parametrize("manual", [False, True])
def test_when_nobody_comes_in_time_the_gate_decides(
    run: Harness, verdict: str, state: str, manual: bool
) -> None:
    gate = {"gate": {"timeout": "20ms", "on_timeout": verdict}}
    begin(run, {"A": "r1"}, A={**gate, "action": {"type": "manual"}} if manual else gate)

    for one in due(run):
        run.follow(run.store.fire(*one))
    run.drain()

    view = run.view()
    assert (view.status, run.states()) == (state, {"A": state})
    assert view.todos[0].error == ("rejected by the timeout of its gate" if verdict == "reject" else None)


def test_a_gate_that_waits_as_long_as_it_takes_has_no_timer(run: Harness) -> None:
    begin(run, {"A": "r1", "B": "r2"}, A=ASKS, B={"gate": {"timeout": "1h"}})

    timers = run.store.redis.zrange(run.store.keys.timers, 0, -1, withscores=True)

    ((name, at_ms),) = timers
    assert name == f"{run.run_id} B"
    assert 0 < at_ms - run.store.now_ms() <= timedelta(hours=1) / timedelta(milliseconds=1)
    approve(run, "B")
    assert run.store.redis.zcard(run.store.keys.timers) == 0


def test_the_time_of_a_gate_runs_while_the_run_is_paused_and_what_is_let_through_begins_when_it_goes_on(
    run: Harness,
) -> None:
    gate = {"gate": {"timeout": "20ms", "on_timeout": "approve"}}
    begin(run, {"A": "r1", "B": "r2"}, A=gate, B=ASKS)
    run.follow(run.store.pause(run.run_id, "test"))

    for one in due(run):
        run.follow(run.store.fire(*one))
    assert approve(run, "B") == "approved"
    assert (run.drain(), run.states()) == ([], {"A": "ready", "B": "ready"})

    run.follow(run.store.resume(run.run_id, "test"))
    assert sorted(run.drain()) == ["A", "B"]


def test_what_is_rejected_while_the_run_is_paused_has_failed_at_once(run: Harness) -> None:
    begin(run, {"A": "r1", "B": ("r1", ["A"])}, A=ASKS)
    run.follow(run.store.pause(run.run_id, "test"))

    reject(run, "A")

    assert run.states() == {"A": "failed", "B": "skipped"}
    assert run.view().status == "failed"


def test_where_nothing_waits_for_a_person_nothing_is_decided(run: Harness) -> None:
    begin(run, {"A": "r1", "B": ("r1", ["A"]), "C": "r2"}, B=ASKS)

    assert [approve(run, todo) for todo in ("A", "B", "C", "nobody")] == ["idle"] * 4
    assert [reject(run, todo) for todo in ("A", "B", "C", "nobody")] == ["idle"] * 4
    assert run.store.complete(run.run_id, "nobody", "lena").word == "idle"
    run.follow(run.store.cancel(run.run_id, "test"))
    assert approve(run, "B") == "idle"


def test_events_tell_who_decided_and_what_was_said(run: Harness) -> None:
    begin(run, {"A": "r1", "B": "r2"}, on_failure=OnFailure.CONTINUE, A=ASKS, B=ASKS)
    approve(run, "A")
    reject(run, "B", "not before Friday")

    entries = [fields for _, fields in run.store.redis.xrange(run.store.keys.run(run.run_id).events)]

    told = [
        (e["what"], e["todo"], e["by"], e["comment"])
        for e in entries
        if e["what"].endswith(("oved", "jected"))
    ]
    assert told == [("todo.approved", "A", "lena", ""), ("todo.rejected", "B", "lena", "not before Friday")]


def test_a_retry_asks_again_for_what_it_runs_again_and_for_nothing_else(run: Harness) -> None:
    eco = with_milestone({"A": "r1", "B": ("r1", ["M1", "A"]), "C": ("r2", ["B"])}, "A")
    todos = tuple(
        t.model_copy(update={"gate": eco.coordination.plans[0].milestones[0].gate})
        for t in eco.coordination.todos
    )
    eco = eco.with_coordination(todos=todos)
    run.submit(build(eco, PLAN), eco, order())
    approve(run, "A")
    run.drain()
    approve(run, "M1")
    reject(run, "B")

    ended = read(run.store, run.run_id)
    left = plan_retry_of(ended, eco, Settings(), without=(), carried=lambda repo, commit: False)
    run.run_id, reply = submit_retry(run.store, left, Settings(), on_failure=None, max_parallel=None)
    run.follow(reply)

    assert run.states() == {"A": "succeeded", "M1": "succeeded", "B": "parked", "C": "waiting"}
    assert left.repos == ("r1", "r2")
    approve(run, "B")
    run.drain()
    assert run.states()["C"] == "parked"


def test_two_milestones_one_after_the_other_need_no_worker(run: Harness) -> None:
    eco = with_milestone({"A": "r1"}, "A")
    first = eco.coordination.plans[0].milestones[0]
    second = first.model_copy(update={"id": "M2", "dependencies": ("M1",)})
    plan = eco.coordination.plans[0].model_copy(update={"milestones": (first, second)})
    eco = eco.with_coordination(plans=(plan,))
    run.submit(build(eco, PLAN), eco, order(Strategy.LEVELS))
    run.drain()

    assert [approve(run, "M1"), approve(run, "M2")] == ["settled", "settled"]
    assert run.view().status == "succeeded"
    assert graph({"A": "r1"}).milestones == ()
