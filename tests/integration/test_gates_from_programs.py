"""Gates as scripts decide them: which run is meant, why nothing is to be decided, and what a decision leaves;
the workers' part is played.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordination import Conflict, Coord, CoordinationError, NotFound, OnFailure, UsageError
from coordination.models import Milestone
from coordination.planner.graph import build
from tests.engine import Engine
from tests.plans import PLAN, ecosystem, order

FILE = """\
settings: {namespace: test}
repos: [{name: r1}, {name: r2}]
coordination:
  todos: [{id: A, task: A, repo: r1, action: "true"}, {id: C, task: C, repo: r2, action: "true"}]
"""
TODOS = {"A": "r1", "B": ("r1", ["A"]), "C": "r2", "HAND": "r3"}
ASKS = {"gate": {}}
MORE = {"A": ASKS, "B": ASKS, "HAND": {"action": {"type": "manual"}}}


@pytest.fixture
def coord(tmp_path: Path, redis_url: str) -> Iterator[Coord]:
    (tmp_path / "ecosystem.yaml").write_text(FILE)
    with Coord(tmp_path / "ecosystem.yaml", redis_url) as made:
        yield made


@pytest.fixture
def run(store: Any) -> Engine:
    return Engine(store)


@pytest.fixture
def asking(run: Engine) -> Engine:
    return begun(run)


def begun(run: Engine) -> Engine:
    return run.begin(TODOS, on_failure=OnFailure.CONTINUE, more=MORE)


def refused(
    coord: Coord, todo: str, run: str | None = None, *, verdict: str = "approve"
) -> CoordinationError:
    with pytest.raises(CoordinationError) as caught:
        getattr(coord.runs, verdict)(todo, run=run)
    assert caught.value.hint
    return caught.value


def test_the_one_run_that_asks_is_found(coord: Coord, asking: Engine) -> None:
    assert coord.runs.reject("HAND").id == asking.run_id
    other = begun(Engine(asking.store))

    error = refused(coord, "A")
    assert (type(error), "wait for A" in error.message) == (UsageError, True)
    assert error.hint.startswith("name one: coord approve A --run ")
    assert coord.runs.approve("A", run=other.run_id).id == other.run_id
    assert coord.runs.approve("A").id == asking.run_id
    assert "A was approved by" in refused(coord, "A").message, "it waits for its repository, not for a person"


@pytest.mark.parametrize(
    ("todo", "kind", "words"),
    [
        ("B", Conflict, "B of run {run} is waiting: it cannot be decided yet; it waits for A"),
        ("C", UsageError, "C of run {run} has no gate: it needs no approval"),
        ("HANDS", NotFound, "no run has a todo 'HANDS' (did you mean 'HAND'?)"),
    ],
)
def test_a_refusal_says_why_nothing_is_to_be_decided(
    coord: Coord, asking: Engine, todo: str, kind: type[CoordinationError], words: str
) -> None:
    error = refused(coord, todo)

    assert (type(error), error.message) == (kind, words.format(run=asking.run_id))


def test_a_decision_stays_with_its_todo(coord: Coord, asking: Engine) -> None:
    asking.approve("A", "lena@here", "go")
    asking.drain()
    asking.reject("B", "lena@here", "not before Friday")

    found = asking.todo("A")
    assert (found.state, found.approved_by, found.comment) == ("succeeded", "lena@here", "go")
    for todo, word, comment in (("A", "approved", "go"), ("B", "rejected", "not before Friday")):
        for verdict in ("reject", "approve"):
            error = refused(coord, todo, verdict=verdict)
            assert isinstance(error, Conflict)
            assert error.message.startswith(f"{todo} was {word} by lena@here at 20")
            assert error.message.endswith(f': "{comment}"')
    assert error.hint == f"retry the run: coord retry {asking.run_id}"


def test_ended_runs_tell_decisions_and_runs_that_roll_back_ask_for_none(coord: Coord, asking: Engine) -> None:
    asking.reject("A", "lena@here", "")
    asking.approve("HAND", "lena@here", "")
    asking.drain()
    assert asking.view().status == "failed"

    assert "A was rejected by lena@here" in refused(coord, "A").message
    skipped = refused(coord, "B")
    assert skipped.message == f"B of run {asking.run_id} is skipped: it needs no decision any more"
    assert "has no todo 'X'" in refused(coord, "X", asking.run_id).message

    other = begun(Engine(asking.store))
    other.take("C")
    other.roll_back()
    rolling = refused(coord, "A", other.run_id)
    assert rolling.message == f"run {other.run_id} is rolling back: none of its todos starts any more"


def test_todos_that_wait_for_a_person_are_listed_longest_first(coord: Coord, asking: Engine) -> None:
    asking.store.redis.hset(
        asking.store.keys.run(asking.run_id).facts, mapping={"HAND since": 1000, "A since": 2000}
    )

    first = coord.live.asking()
    coord.runs.approve("A")
    coord.runs.get(asking.run_id).cancel()

    assert [(one.todo, one.run_id, one.waits_for) for one in first] == [
        ("HAND", asking.run_id, "a person: coord todo complete HAND"),
        ("A", asking.run_id, "an approval: coord approve A"),
    ]
    assert not coord.live.asking()


def submitted(run: Engine, todo: str, plan_id: str) -> Engine:
    eco = ecosystem({todo: ("r1", ["M1"])})
    milestone = Milestone.model_validate({"id": "M1", "name": "reviewed", "gate": True})
    plan = eco.coordination.plans[0].model_copy(update={"id": plan_id, "milestones": (milestone,)})
    todos = tuple(one.model_copy(update={"plan": plan_id}) for one in eco.coordination.todos)
    eco = eco.with_coordination(plans=(plan,), todos=todos)
    run.submit(build(eco, plan_id), eco, order())
    return run


def test_each_run_asks_for_its_own(coord: Coord, run: Engine) -> None:
    mine, other = submitted(run, "A", PLAN), submitted(Engine(run.store), "B", "PLAN-002")

    with pytest.raises(Conflict, match="executes A"):
        coord.runs.execute("A")
    assert isinstance(refused(coord, "M1"), UsageError)
    coord.runs.approve("M1", run=mine.run_id)

    assert mine.states() == {"M1": "succeeded", "A": "dispatched"}
    assert other.states() == {"M1": "parked", "B": "waiting"}
    assert coord.runs.approve("M1").id == other.run_id
