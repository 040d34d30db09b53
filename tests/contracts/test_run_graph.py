"""A run goes on in the order in which it was submitted, or says what has become another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from coordination.errors import Conflict, PlanRefused
from coordination.models import Ecosystem
from coordination.planner.graph import build
from coordination.runs.retrying.ended import read
from coordination.runs.submission.structure import graph_hash, refuse_changed
from tests.contracts.run_harness import Harness
from tests.contracts.test_carry_over import TODOS, ended, left, retry
from tests.plans import PLAN, Todos, ecosystem, order

DONE = {"A": {"status": "completed"}, "D": {"status": "completed"}}

CHANGED: Mapping[str, tuple[Todos, str]] = {
    "an edge more": (TODOS | {"C": ("r2", ["B", "D"])}, "C now waits for D"),
    "an edge more to what is done": (TODOS | {"D": "r3", "A": ("r1", ["D"])},
        "A now waits for D; D no longer waits for A"),
    "an edge less": (TODOS | {"E": ("r2", ["C"])}, "E no longer waits for D"),
    "another repository": (TODOS | {"B": ("r4", ["A"])}, "B is in repository r4, and was in r1"),
    "a todo gone": ({name: spec for name, spec in TODOS.items() if name != "C"} | {"E": ("r2", ["D"])},
                    "C is no longer declared; E no longer waits for C"),
    "a new todo before": (TODOS | {"N": "r9", "C": ("r2", ["B", "N"])},
        "C now waits for N, which the run does not have"),
    "another file": ({"OTHER": "r9"},
        "A is no longer declared; B is no longer declared; D is no longer declared; and 2 more"),
}  # fmt: skip
SAME: Mapping[str, Ecosystem] = {
    "what is done is completed": ecosystem(TODOS, **DONE),
    "what was done by hand": ecosystem(TODOS, **DONE, C={"status": "completed"}),
    "actions": ecosystem(TODOS, B={"action": "make it right", "priority": "high", "timeout": "1s"}),
    "a new todo after": ecosystem(TODOS | {"N": ("r9", ["E"]), "M": "r1"}),
    "a new one before that is done": ecosystem(
        TODOS | {"N": "r9", "C": ("r2", ["B", "N"])}, N={"status": "completed"}
    ),
    "a new one before what was done": ecosystem(TODOS | {"N": "r9", "D": ("r3", ["A", "N"])}, **DONE),
    "in another order": ecosystem(dict(reversed(TODOS.items()))),
    "the same edge said from the other side": ecosystem(TODOS | {"C": "r2"}, B={"blocking": ["C"]}),
}


@pytest.mark.parametrize(("todos", "words"), CHANGED.values(), ids=CHANGED)
def test_a_plan_with_another_graph_is_refused_with_what_differs(run: Harness, todos: Todos, words: str):
    first = ended(run, "B")
    with pytest.raises(PlanRefused) as refused:
        left(run.store, first, ecosystem(todos))
    assert refused.value.message == f"{PLAN} is no longer the plan of run {first}: {words}"
    assert refused.value.hint == (
        f"start a new run: coord sweep {PLAN}; or keep the order of the run: coord retry {first} --as-it-was"
    )


@pytest.mark.parametrize("file", SAME.values(), ids=SAME)
def test_what_does_not_change_the_order_of_its_todos_is_no_difference(run: Harness, file: Ecosystem):
    ended(run, "B")
    before = run.store.redis.hget(run.store.keys.run(run.run_id).meta, "graph")
    retry(run, file)
    assert run.store.redis.hget(run.store.keys.run(run.run_id).meta, "graph") == before


def test_a_plan_that_owns_its_todos_by_their_repositories_stays_the_same_when_some_are_done(run: Harness):
    """Such a plan owns open todos only; and one that says it blocks its own plan blocks nobody."""
    todos = {"A": "r1", "B": ("r1", ["A"])}

    def file(**more: Any) -> Ecosystem:
        made = ecosystem(todos, **{name: {"plan": None, **more.get(name, {})} for name in todos})
        (plan,) = made.coordination.plans
        return made.with_coordination(plans=(plan.model_copy(update={"repos": ("r1",)}),))

    blocking = {"A": {"blocking": [PLAN]}}
    run.submit(build(file(**blocking), PLAN), file(**blocking), order())
    brief = run.store.brief(run.run_id)

    refuse_changed(brief, file(A={"blocking": [PLAN], "status": "completed"}), {"B"}, "resume")


@pytest.mark.parametrize(("todos", "_"), CHANGED.values(), ids=CHANGED)
def test_as_it_was_it_goes_on_in_its_own_order(run: Harness, todos: Todos, _: str):
    ended(run, "B")
    retry(run, ecosystem(todos, B={"action": "mended"} if "B" in todos else {}), as_it_was=True)

    grant = run.take("B")
    assert (grant.spec.repo.name, grant.tip) == ("r1", "A-1")
    assert grant.spec.todo.action.run == ("mended" if "B" in todos else "true")
    run.settle(grant)
    assert run.drain() == ["C", "E"]
    assert run.view().status == "succeeded"


def test_the_hash_is_of_todos_repositories_and_edges_alone():
    hashes = {
        graph_hash({"A": "r1", "B": "r1"}, {"A": (), "B": ("A",)}),
        graph_hash({"A": "r1", "B": "r2"}, {"A": (), "B": ("A",)}),
        graph_hash({"A": "r1", "B": "r1"}, {"A": (), "B": ()}),
        graph_hash({"A": "r1"}, {"A": ()}),
    }
    assert len(hashes) == 4
    assert graph_hash({"B": "r1", "A": "r1"}, {"B": ["A"], "A": []}) in hashes


def _brief(run: Harness, **changes: Any) -> str:
    old = json.loads(run.store.redis.hget(run.store.keys.run(run.run_id).meta, "brief"))
    return json.dumps(old | changes)


DAMAGED: Mapping[str, Callable[[Harness, Any], object]] = {
    "an edge gone": lambda run, keys: run.store.redis.hset(keys.children, "A", "B"),
    "an edge more": lambda run, keys: run.store.redis.hset(keys.children, "B", "C D"),
    "a child that is none": lambda run, keys: run.store.redis.hset(keys.children, "B", "C X"),
    "another repository": lambda run, keys: run.store.redis.hset(
        keys.place, "B", "1 1 r9 worktree 0 1/1 seat:r9"
    ),
    "a todo gone": lambda run, keys: run.store.redis.hdel(keys.spec, "B"),
    "a place gone": lambda run, keys: run.store.redis.hdel(keys.place, "B"),
    "another brief": lambda run, keys: run.store.redis.hset(
        keys.meta, "brief", _brief(run, predecessors={"A": []})
    ),
    "half a brief": lambda run, keys: run.store.redis.hset(keys.meta, "brief", _brief(run)[:50]),
    "another hash": lambda run, keys: run.store.redis.hset(keys.meta, "graph", "0" * 64),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_run_whose_records_do_not_fit_its_hash_is_not_taken_up(
    run: Harness, damage: Callable[[Harness, Any], object]
):
    first = ended(run, "B")
    damage(run, run.store.keys.run(first))
    with pytest.raises(
        Conflict, match="are damaged: its todos and their order do not match the hash of its graph"
    ):
        read(run.store, first)


def test_a_run_of_before_there_was_a_hash_is_taken_up(run: Harness):
    ended(run, "B")
    run.store.redis.hdel(run.store.keys.run(run.run_id).meta, "graph")
    retry(run)
    assert run.drain() == ["B", "C", "E"]
