"""Large runs: changes of every todo are done in pieces, and nothing else begins between two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.steps.run import Delivery
from coordination.models import OnFailure
from coordination.planner.graph import PlanGraph
from coordination.runs.maintenance.rounds import RunRecovery
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.engine import BAD, UNBROKEN, Engine
from tests.plans import Todos, ecosystem, graph, order

MANY = 1000
"""More than two pieces, of little more than 300 each."""
FORK: Todos = {
    "FIRST": "a",
    "ASIDE": "b",
    **{f"T{i}": (f"r{i % 7}", ["FIRST"]) for i in range(MANY)},
    "LAST": ("b", ["ASIDE"]),
}
ROOTS: Todos = {f"T{i}": f"r{i % 7}" for i in range(MANY)}


class Large(Engine):
    """The remainder is done only where a test says so."""

    @property
    def left(self) -> bool:
        return self.store.next_batch(self.run_id) is not None

    def piece(self) -> None:
        piece = self.store.next_batch(self.run_id)
        assert piece is not None, "nothing is left"
        self.follow(self.store.execute_batch(self.run_id, piece))

    def finish(self, run_id: str, at_most: int) -> None:
        """As a keeper's dispatcher."""
        assert run_id == self.run_id
        for _ in range(at_most):
            if self.left:
                self.piece()

    def send(self, deliveries: Iterable[Delivery]) -> None:
        self.mail.extend(deliveries)

    def counted(self) -> dict[str, int]:
        return dict(self.view().counts)

    def told(self, what: str) -> Counter[str]:
        """How often each todo was told to have come to this."""
        return Counter(fields["todo"] for fields in self.events(f"todo.{what}"))

    def carry_out(self) -> None:
        while self.mail or self.left:
            self.drain()
            if self.left:
                self.piece()


@pytest.fixture(scope="module")
def fork() -> PlanGraph:
    return graph(FORK)


@pytest.fixture
def large(redis_url: str) -> Iterator[Large]:
    with connect(redis_url, Profile.WORKER) as client:
        yield Large(RunStore(client, "test"))


def begin(
    large: Large, plan: PlanGraph, todos: Todos = FORK, on_failure: OnFailure = OnFailure.CONTINUE
) -> Large:
    large.submit(plan, ecosystem(todos), order(on_failure=on_failure))
    return large


def test_a_todo_with_many_dependents_lets_all_of_them_go_in_pieces_each_once(large: Large, fork: PlanGraph):
    run = begin(large, fork)
    run.settle(run.take("FIRST"))
    assert run.left
    assert 0 < run.counted()["waiting"] < MANY
    piece = run.store.next_batch(run.run_id)
    assert piece is not None

    run.piece()
    before = (run.view(), run.told("ready"), run.store.next_batch(run.run_id))
    assert run.store.execute_batch(run.run_id, piece).word == "past"
    assert (run.view(), run.told("ready"), run.store.next_batch(run.run_id)) == before
    while run.left:
        run.piece()

    assert run.counted().get("waiting") == 1, "LAST"
    assert run.told("ready") == dict.fromkeys(set(FORK) - {"LAST"}, 1)


def test_a_run_of_many_roots_begins_in_pieces_and_a_cancel_has_precedence(large: Large):
    run = begin(large, graph(ROOTS), ROOTS)
    assert run.left
    running = [grant for grant in (run.next(), run.next()) if grant]

    run.cancel("ann")
    run.settle(running[0])
    assert run.left
    assert not run.drain(), "something was begun after the cancel"
    run.settle(running[1])
    RunRecovery(run.store, run, Settings()).run_once()  # type: ignore[arg-type] # the leader does the rest

    assert run.view().status == "cancelled"
    assert run.counted() == {"succeeded": 2, "cancelled": MANY - 2}
    assert set(run.told("cancelled").values()) == {1}


def test_a_success_after_a_cancel_starts_no_todo(large: Large, fork: PlanGraph):
    run = begin(large, fork)
    first = run.take("FIRST")
    run.cancel("ann")
    assert run.left
    run.mail.clear()

    run.settle(first)

    assert not run.mail
    assert not run.told("ready").keys() - {"FIRST", "ASIDE"}
    run.carry_out()
    assert run.counted() == {"succeeded": 1, "cancelled": MANY + 2}


def test_a_failure_halts_all_though_pieces_are_left_and_says_which_it_was(large: Large, fork: PlanGraph):
    run = begin(large, fork, on_failure=OnFailure.HALT)
    aside = run.take("ASIDE")

    run.settle(run.take("FIRST"), BAD)
    assert run.left
    run.settle(aside, BAD)
    assert run.view().status == "running"
    run.carry_out()

    assert run.view().status == "failed"
    assert {todo.error for todo in run.view().todos if todo.state == "skipped"} == {"halted: FIRST failed"}
    assert run.counted() == {"failed": 2, "skipped": MANY + 1}


def test_dependents_of_a_failed_todo_are_skipped_in_pieces(large: Large, fork: PlanGraph):
    run = begin(large, fork)

    run.settle(run.take("FIRST"), BAD)
    assert run.left
    assert run.drain() == ["ASIDE", "LAST"]
    assert run.view().status == "running"
    assert run.left
    assert run.store.stuck(run.run_id) == ()
    run.carry_out()

    assert run.view().status == "failed"
    assert run.counted() == {"succeeded": 2, "failed": 1, "skipped": MANY}
    assert set(run.told("skipped").values()) == {1}


def test_a_rollback_between_pieces_waits_for_the_rest(large: Large, fork: PlanGraph):
    run = begin(large, fork, on_failure=OnFailure.HALT)
    run.settle(run.take("ASIDE"))
    run.settle(run.take("FIRST"), BAD)
    assert run.left
    run.mail.clear()

    run.follow(run.store.rollback(run.run_id, "ann", "ann asked for it"))
    assert not run.mail, "something is undone while more may be found to be ended"
    run.carry_out()

    assert run.view().status == "rolled_back"
    assert {todo.id for todo in run.view().todos if todo.state == "compensated"} == {"FIRST", "ASIDE"}


def test_a_todo_that_is_tried_again_or_waits_for_a_person_does_not_begin_after_a_cancel(large: Large):
    todos: Todos = {"GATED": "g", "AGAIN": "h", **ROOTS}
    gate = {"gate": {}}
    large.submit(graph(todos, GATED=gate), ecosystem(todos, GATED=gate), order())
    run = large
    while run.left:
        run.piece()
    again = run.take("AGAIN")
    run.retry(again, UNBROKEN.retry_delay, BAD)
    assert run.states(["GATED", "AGAIN"]) == {"GATED": "parked", "AGAIN": "retrying"}

    run.cancel("ann")
    assert run.left
    assert run.approve("GATED", "ben", "").word == "idle"
    run.fire("AGAIN")
    run.carry_out()

    assert run.counted() == {"cancelled": MANY + 2}
