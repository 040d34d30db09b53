"""Approvals: the run that waits for one, and the reasons why none does."""

from __future__ import annotations

import pytest

from coordination.errors import Conflict, CoordinationError, NotFound, UsageError
from coordination.models import Milestone, OnFailure, Verdict
from coordination.operations.doctor import Facts
from coordination.operations.machine_check import Machine as Asker
from coordination.planner.graph import build
from coordination.runs.control.approvals import run_with_gate
from coordination.runs.store import RunStore
from coordination.runs.submission.refusals import refuse_conflicts_of
from coordination.runs.views.live import Live
from coordination.runs.views.run_view import RunReader
from coordination.runs.views.todo_view import find_runs_of
from coordination.runs.worker_registry import WorkerRegistry
from tests.contracts.run_harness import Harness
from tests.plans import PLAN, ecosystem, order

ASKS = {"gate": {}}
TODOS = {"A": "r1", "B": ("r1", ["A"]), "C": "r2", "HAND": "r3"}
MORE = {"A": ASKS, "B": ASKS, "HAND": {"action": {"type": "manual"}}}


@pytest.fixture
def run(store: RunStore) -> Harness:
    return begun(store)


def begun(store: RunStore) -> Harness:
    return Harness(store).begin(TODOS, on_failure=OnFailure.CONTINUE, more=MORE)


def refused(run: Harness, verdict: Verdict, todo: str, run_id: str | None = None) -> CoordinationError:
    with pytest.raises(CoordinationError) as caught:
        run_with_gate(run.store, verdict, todo, run_id)
    assert caught.value.hint
    return caught.value


def test_the_one_run_that_asks_is_found(run: Harness) -> None:
    assert run_with_gate(run.store, Verdict.APPROVE, "A", None) == run.run_id
    assert run_with_gate(run.store, Verdict.REJECT, "HAND", None) == run.run_id
    other = begun(run.store)

    assert run_with_gate(run.store, Verdict.APPROVE, "A", other.run_id) == other.run_id
    error = refused(run, Verdict.APPROVE, "A")
    assert (type(error), "wait for A" in error.message) == (UsageError, True)
    assert error.hint.startswith("name one: coord approve A --run ")


def test_a_todo_that_waits_for_a_seat_needs_no_second_approval(run: Harness) -> None:
    run.follow(run.store.approve(run.run_id, "A", "lena", ""))
    other = begun(run.store)
    other.follow(other.store.approve(other.run_id, "A", "lena", ""))
    assert run.take("A").todo_id == "A"
    assert next(d for d in other.mail if d.todo_id == "A")
    while other.mail:
        other.next()

    (found,) = find_runs_of(run.store.redis, run.store.keys, "A", [other.run_id])

    assert (found.state, found.asks) == ("parked", False)


@pytest.mark.parametrize(
    ("todo", "kind", "words"),
    [
        ("B", Conflict, "B of run {run} is waiting: it cannot be decided yet; it waits for A"),
        ("C", UsageError, "C of run {run} has no gate: it needs no approval"),
        ("HANDS", NotFound, "no run has a todo 'HANDS' (did you mean 'HAND'?)"),
    ],
)
def test_a_refusal_says_why_nothing_is_to_be_decided(
    run: Harness, todo: str, kind: type[CoordinationError], words: str
) -> None:
    error = refused(run, Verdict.APPROVE, todo)

    assert (type(error), error.message) == (kind, words.format(run=run.run_id))


def test_a_decision_stays_with_its_todo(run: Harness) -> None:
    run.follow(run.store.approve(run.run_id, "A", "lena@here", "go"))
    run.drain()
    run.follow(run.store.reject(run.run_id, "B", "lena@here", "not before Friday"))

    found = run.todo("A")
    assert (found.state, found.approved_by, found.comment) == ("succeeded", "lena@here", "go")
    for todo, word, comment in (("A", "approved", "go"), ("B", "rejected", "not before Friday")):
        for verdict in (Verdict.REJECT, Verdict.APPROVE):
            error = refused(run, verdict, todo)
            assert isinstance(error, Conflict)
            assert error.message.startswith(f"{todo} was {word} by lena@here at 20")
            assert error.message.endswith(f': "{comment}"')
    assert error.hint == f"retry the run: coord retry {run.run_id}"


def test_ended_runs_tell_decisions_and_runs_that_roll_back_ask_for_none(run: Harness) -> None:
    run.follow(run.store.reject(run.run_id, "A", "lena@here", ""))
    run.follow(run.store.approve(run.run_id, "HAND", "lena@here", ""))
    run.drain()
    assert run.view().status == "failed"

    assert "A was rejected by lena@here" in refused(run, Verdict.APPROVE, "A").message
    skipped = refused(run, Verdict.APPROVE, "B")
    assert skipped.message == f"B of run {run.run_id} is skipped: it needs no decision any more"
    assert "has no todo 'X'" in refused(run, Verdict.APPROVE, "X", run.run_id).message

    other = begun(run.store)
    other.take("C")
    other.roll_back()
    rolling = refused(other, Verdict.APPROVE, "A", other.run_id)
    assert rolling.message == f"run {other.run_id} is rolling back: none of its todos starts any more"


def test_todos_that_wait_for_a_person_are_listed_longest_first(run: Harness) -> None:
    live = Live(run.store.redis, run.store.keys)
    run.store.redis.hset(run.store.keys.run(run.run_id).facts, mapping={"HAND since": 1000, "A since": 2000})

    first = live.asking()
    run.follow(run.store.approve(run.run_id, "A", "lena", ""))
    run.follow(run.store.cancel(run.run_id, "lena"))

    assert [(one.todo, one.run_id, one.waits_for) for one in first] == [
        ("HAND", run.run_id, "a person: coord complete-todo HAND"),
        ("A", run.run_id, "an approval: coord approve A"),
    ]
    assert live.asking() == []


def submitted(store: RunStore, todo: str, plan_id: str) -> Harness:
    eco = ecosystem({todo: ("r1", ["M1"])})
    milestone = Milestone.model_validate({"id": "M1", "name": "reviewed", "gate": True})
    plan = eco.coordination.plans[0].model_copy(update={"id": plan_id, "milestones": (milestone,)})
    todos = tuple(one.model_copy(update={"plan": plan_id}) for one in eco.coordination.todos)
    eco = eco.with_coordination(plans=(plan,), todos=todos)
    run = Harness(store)
    run.submit(build(eco, plan_id), eco, order())
    return run


def test_each_run_asks_for_its_own(store: RunStore) -> None:
    mine, other = submitted(store, "A", PLAN), submitted(store, "B", "PLAN-002")

    refuse_conflicts_of(store, RunReader(store.redis, store.keys), {"M1", "C"})
    with pytest.raises(Conflict, match="executes A"):
        refuse_conflicts_of(store, RunReader(store.redis, store.keys), {"M1", "A"})
    with pytest.raises(UsageError, match="wait for M1"):
        run_with_gate(store, Verdict.APPROVE, "M1", None)
    mine.follow(store.approve(mine.run_id, "M1", "lena", ""))

    assert mine.states() == {"M1": "succeeded", "A": "dispatched"}
    assert other.states() == {"M1": "parked", "B": "waiting"}
    assert run_with_gate(store, Verdict.APPROVE, "M1", None) == other.run_id


def test_no_worker_is_missed_for_it(store: RunStore) -> None:
    run = submitted(store, "A", PLAN)
    facts = Facts(machine=Asker(host="h", version="1", git="2"), runs=(run.view(),))

    assert facts.repos == ("r1",)
    assert set(WorkerRegistry(store.redis, store.keys).unserved({t.repo for t in run.view().todos})) == {"r1"}
