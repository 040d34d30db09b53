"""Gates in runs: a todo at a gate holds nothing, people or a timeout decide once, and a decision stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from coordination.models import Ecosystem, Milestone, OnFailure, Strategy
from coordination.operations.doctor import Checkup
from coordination.operations.machine_check import Machine as Asker
from coordination.planner.graph import build
from coordination.runs.records import WaitReason
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import WorkerRegistry
from tests.engine import Engine, retry_of
from tests.plans import PLAN, ecosystem, graph, order
from tests.waiting import until

ASKS = {"gate": {}}
BOTH = pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])


def with_milestone(todos: Any, *dependencies: str, **gate: Any) -> Ecosystem:
    eco = ecosystem(todos)
    milestone = Milestone.model_validate(
        {"id": "M1", "name": "reviewed", "dependencies": dependencies, "gate": gate or True}
    )
    plan = eco.coordination.plans[0].model_copy(update={"milestones": (milestone,)})
    return eco.with_coordination(plans=(plan,))


def approve(run: Engine, todo: str, who: str = "lena") -> str:
    word = run.approve(todo, who, "").word
    run.join()
    return word


def reject(run: Engine, todo: str, comment: str = "not yet") -> str:
    word = run.reject(todo, "lena", comment).word
    run.join()
    return word


def held(store: RunStore) -> list[str]:
    """Every lock, slot, resource, lease and place in a queue that anybody has."""
    names = ("lock-shares", "lock-queue", "lock-request", "slot", "resource", "leases", "holders")
    return [key for key in store.redis.keys("test:*") if key.removeprefix("test:").startswith(names)]


@BOTH
def test_a_todo_at_a_gate_holds_nothing_and_needs_one_approval(run: Engine, strategy: Strategy) -> None:
    gated = {**ASKS, "resources": ["gpu"], "priority": "critical"}
    run.begin(
        {"A": "r1", "B": "r1"},
        strategy=strategy,
        capacities={"gpu": 1},
        max_parallel=1,
        more={"A": gated, "B": {"resources": ["gpu"]}},
    )

    grant = run.take("B")
    assert len(held(run.store)) >= 4  # its slot, the resource, its lease, its fence
    run.settle(grant)
    assert run.drain() == []
    assert held(run.store) == []
    assert run.states() == {"A": "parked", "B": "succeeded"}
    assert run.waits_for("A") == "an approval: coord approve A"
    assert run.store.redis.hget(run.store.keys.run(run.run_id).meta, "active") == "0"

    assert [approve(run, "A"), approve(run, "A"), reject(run, "A")] == ["approved", "idle", "idle"]
    first = run.take("A")
    assert run.lose("A") == "requeued"
    again = run.take("A")
    assert again.attempt == first.attempt + 1
    run.settle(again)
    assert run.view().status == "succeeded"


@BOTH
def test_a_message_that_came_early_is_sent_again_when_approved(run: Engine, strategy: Strategy) -> None:
    run.begin({"A": "r1", "B": ("r2", ["A"])}, strategy=strategy, more={"A": ASKS, "B": ASKS})

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


@BOTH
def test_a_milestone_waits_for_its_approval_between_what_it_ties(run: Engine, strategy: Strategy) -> None:
    eco = with_milestone({"A": "r1", "B": ("r2", ["M1"])}, "A")
    run.submit(build(eco, PLAN), eco, order(strategy))

    assert run.drain() == ["A"]
    milestone = run.todo("M1")
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
    run: Engine, strategy: Strategy, on_failure: OnFailure, rest: dict[str, str], status: str
) -> None:
    todos = {"A": "r1", "B": ("r1", ["A"]), "C": "r2"}
    run.begin(todos, strategy=strategy, on_failure=on_failure, more={"A": ASKS})

    assert reject(run, "A") == "settled"
    run.drain()

    assert (run.view().status, run.states()) == (status, {"A": "failed", **rest})
    assert run.todo("A").error == "rejected by lena: not yet"


@pytest.mark.parametrize("approved", [True, False])
def test_a_rollback_undoes_the_todos_around_a_milestone(run: Engine, approved: bool) -> None:
    eco = with_milestone({"A": "r1", "B": ("r2", ["M1"])}, "A")
    run.submit(build(eco, PLAN), eco, order(on_failure=OnFailure.ROLLBACK))
    run.drain()
    if approved:
        approve(run, "M1")
        run.drain()
        run.roll_back()
    else:
        reject(run, "M1")

    assert run.drain() == (["B", "A"] if approved else ["A"])
    assert run.view().status == "rolled_back"
    rest = {"B": "compensated", "M1": "succeeded"} if approved else {"B": "skipped", "M1": "failed"}
    assert run.states() == {"A": "compensated", **rest}


@pytest.mark.parametrize(("verdict", "state"), [("approve", "succeeded"), ("reject", "failed")])
@pytest.mark.parametrize("manual", [False, True])
def test_when_nobody_comes_in_time_the_gate_decides(
    run: Engine, verdict: str, state: str, manual: bool
) -> None:
    gate = {"gate": {"timeout": "20ms", "on_timeout": verdict}}
    run.begin({"A": "r1"}, more={"A": {**gate, "action": {"type": "manual"}} if manual else gate})

    until(lambda: run.store.due(run.now_ms()))
    run.tick()
    run.drain()

    assert (run.view().status, run.states()) == (state, {"A": state})
    assert run.todo("A").error == ("rejected by the timeout of its gate" if verdict == "reject" else None)


def test_gates_decide_while_the_run_is_paused_and_their_todos_begin_after_it(run: Engine) -> None:
    gate = {"gate": {"timeout": "20ms", "on_timeout": "approve"}}
    todos = {"A": "r1", "B": "r2", "C": "r3", "D": ("r3", ["C"]), "E": "r4"}
    run.begin(todos, more={"A": gate, "B": ASKS, "C": ASKS, "E": {"gate": {"timeout": "1h"}}})
    timers = run.store.redis.zrange(run.store.keys.timers, 0, -1)
    assert sorted(timers) == [f"{run.run_id} A", f"{run.run_id} E"], "B and C wait as long as it takes"
    run.pause("test")

    until(lambda: run.store.due(run.now_ms()))
    run.tick()
    assert [approve(run, "B"), approve(run, "E"), reject(run, "C")] == ["approved", "approved", "settled"]
    assert not run.store.redis.zcard(run.store.keys.timers)
    assert (run.drain(), run.states("ABCD")) == (
        [],
        {"A": "ready", "B": "ready", "C": "failed", "D": "skipped"},
    )

    run.resume("test")
    assert sorted(run.drain()) == ["A", "B", "E"]


def test_where_nothing_waits_for_a_person_nothing_is_decided(run: Engine) -> None:
    run.begin({"A": "r1", "B": ("r1", ["A"]), "C": "r2"}, more={"B": ASKS})

    assert [approve(run, todo) for todo in ("A", "B", "C", "nobody")] == ["idle"] * 4
    assert [reject(run, todo) for todo in ("A", "B", "C", "nobody")] == ["idle"] * 4
    assert run.complete("nobody", "lena").word == "idle"
    run.cancel("test")
    assert approve(run, "B") == "idle"


def test_events_tell_who_decided_and_what_was_said(run: Engine) -> None:
    run.begin({"A": "r1", "B": "r2"}, on_failure=OnFailure.CONTINUE, more={"A": ASKS, "B": ASKS})
    approve(run, "A")
    reject(run, "B", "not before Friday")

    told = [
        (e["todo"], e["by"], e["comment"])
        for what in ("approved", "rejected")
        for e in run.events(f"todo.{what}")
    ]
    assert told == [("A", "lena", ""), ("B", "lena", "not before Friday")]


def test_a_retry_asks_again_for_what_it_runs_again_and_for_nothing_else(run: Engine) -> None:
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

    left = retry_of(run.store, run.run_id, eco, without=(), carried=lambda repo, commit: False)
    run.begin_again(left)

    assert run.states() == {"A": "succeeded", "M1": "succeeded", "B": "parked", "C": "waiting"}
    assert left.repos == ("r1", "r2")
    approve(run, "B")
    run.drain()
    assert run.states()["C"] == "parked"


def test_two_milestones_one_after_the_other_need_no_worker(run: Engine) -> None:
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


def test_no_worker_is_missed_for_a_milestone(run: Engine) -> None:
    eco = with_milestone({"A": "r1"}, "A")
    run.submit(build(eco, PLAN), eco, order())
    facts = Checkup(machine=Asker(host="h", version="1", git="2"), runs=(run.view(),))

    assert facts.repos == ("r1",)
    missed = WorkerRegistry(run.store.redis, run.store.keys).unserved({t.repo for t in run.view().todos})
    assert set(missed) == {"r1"}


def ask(run: Engine, todo: str, question: str) -> None:
    """The agent of the todo asks a person."""
    assert run.hold_up(run.take(todo), question, timedelta(0), reason=WaitReason.PERSON).word == "parked"


@BOTH
def test_a_question_holds_nothing_and_its_answer_reaches_the_next_attempt(run: Engine, strategy: Strategy):
    run.begin({"A": "r1", "B": "r1", "C": ("r2", ["A"])}, strategy=strategy, max_parallel=1)
    ask(run, "A", "a asks: one?")

    assert run.todo("A").wait_reason is WaitReason.PERSON
    assert run.store.stuck(run.run_id) == ()
    run.settle(run.take("B"))
    assert run.approve("A", "bob", "one").word == "approved"
    grant = run.take("A")

    assert (grant.question, grant.answer, grant.attempt) == ("a asks: one?", "one", 1)
    assert run.approve("A", "bob", "two").word == "idle"
    run.settle(grant)
    assert run.drain() == ["C"]
    assert run.view().status == "succeeded"


def test_each_answer_is_that_of_the_last_question_also_behind_a_gate(run: Engine):
    run.begin({"A": "r1"}, more={"A": {"gate": {"timeout": "1d"}}})
    run.approve("A", "bob")
    for answer in ("one", "two"):
        ask(run, "A", f"a asks: {answer}?")
        assert run.store.stuck(run.run_id) == ()
        assert run.approve("A", "bob", answer).word == "approved"

    grant = run.take("A")

    assert (grant.question, grant.answer) == ("a asks: two?", "two")


def test_a_rejected_question_fails_the_todo(run: Engine):
    run.begin({"A": "r1", "B": ("r2", ["A"])})
    ask(run, "A", "a asks: one?")

    assert run.reject("A", "bob", "neither").word == "settled"
    assert run.states() == {"A": "failed", "B": "skipped"}


def test_a_question_ends_with_its_cancelled_run(run: Engine):
    run.begin({"A": "r1"})
    ask(run, "A", "a asks: one?")

    run.cancel("bob")

    assert run.states() == {"A": "cancelled"}
